"""Utterances of all kinds of data: JSONL manifests, Kaldi folders, Lhotse cuts, audio files and folders."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parlab.data.audio import SUFFIXES
from parlab.data.cuts import read_cuts
from parlab.data.kaldi import read_kaldi
from parlab.data.utterance import LONGEST, Utterance, bad_name, read_lines
from parlab.errors import UserError


def read_data(source: str | Path | Sequence[str | Path], limit: int | None = None) -> list[Utterance]:
    """Read utterances of any supported kind; a missing audio file is noticed only when it is loaded.

    Args:
        source: a ``.jsonl`` manifest (NeMo's keys), a Kaldi folder, a Lhotse cut manifest, an audio file, a folder
            of audio files, or a list of any of these.
        limit: read only so many utterances.

    Raises:
        UserError: nothing usable is there, a line is wrong, or an id occurs twice.
    """
    if isinstance(source, (list, tuple)):
        found = [utterance for part in source for utterance in read_data(part)]
    else:
        found = _read_one(Path(str(source)).expanduser())
    seen: set[str] = set()
    for utterance in found:
        if utterance.id in seen:
            raise UserError(f"the id '{utterance.id}' occurs twice in {source}; ids must be unique, rename one")
        seen.add(utterance.id)
        if problem := bad_name(utterance.id) or bad_name(str(utterance.audio)):
            raise UserError(
                f"the utterance {utterance.id[:80]!r} of {source} has an id or a file name with {problem}, expected plain "
                "text; rename it"
            )
    if not found:
        raise UserError(f"there are no utterances in {source}, expected at least one; name other data")
    return found[:limit] if limit else found


def _read_one(path: Path) -> list[Utterance]:
    if path.is_dir():
        if (path / "wav.scp").is_file():
            return read_kaldi(path)
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not files:
            raise UserError(
                f"the folder {path} holds neither wav.scp nor audio files; name a manifest or another folder"
            )
        return [Utterance(str(p.relative_to(path).with_suffix("")), p) for p in files]
    if not path.is_file():
        raise UserError(
            f"the data {path} does not exist, expected a manifest, a Kaldi folder, cuts or audio; check the path"
        )
    if path.suffix.lower() in SUFFIXES:
        return [Utterance(path.stem, path)]
    if path.name.endswith((".jsonl", ".json", ".jsonl.gz", ".json.gz")):
        lines = read_lines(path)
        return read_cuts(path) if _holds_cuts(lines) else read_manifest(path, lines)
    raise UserError(
        f"the data {path} is of no known kind, expected .jsonl, a Kaldi folder, Lhotse cuts or audio; name one of these"
    )


def _holds_cuts(lines: Sequence[str]) -> bool:
    """Whether the first entry is one of Lhotse's, whose ``.json`` is one list over many lines."""
    first = next((line for line in lines if line.strip()), "")
    if first.strip() == "[":
        return True
    try:
        entry = json.loads(first)
    except (ValueError, RecursionError):  # ValueError: no JSON, or a number of thousands of digits
        return False
    if isinstance(entry, list) and entry:
        entry = entry[0]
    return isinstance(entry, dict) and ("recording" in entry or str(entry.get("type", "")).endswith("Cut"))


def read_manifest(path: Path, lines: Sequence[str] | None = None) -> list[Utterance]:
    """A JSONL manifest: ``id``, ``audio_filepath``, ``offset``, ``duration`` (s), ``text``, ``speaker``.

    Only the path is a must, relative to the manifest's folder; an entry without id is called by its path.

    Args:
        lines: the content, where it has been read already.

    Raises:
        UserError: a line is no JSON, lacks the path, or has a wrong time, or two have one id; the line is named.
    """
    found: list[Utterance] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_lines(path) if lines is None else lines, 1):
        if not line.strip():
            continue
        utterance = _entry(line, path, number)
        if utterance.id in seen:
            raise UserError(
                f"{path}, lines {seen[utterance.id]} and {number}: both have the id '{utterance.id}'; rename one"
            )
        seen[utterance.id] = number
        found.append(utterance)
    return found


_KNOWN = frozenset({"id", "audio_filepath", "text", "duration", "speaker", "offset"})


def _entry(line: str, path: Path, number: int) -> Utterance:
    where = f"{path}, line {number}"
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
        raise UserError(f"{where}: no valid JSON ({getattr(error, 'msg', error)}); correct the line") from error
    name = entry.get("audio_filepath") if isinstance(entry, dict) else None
    if name is None:
        raise UserError(f"{where}: the key 'audio_filepath' is missing; add it")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: 'audio_filepath' is {repr(name)[:80]}, expected the path of a file; correct it")
    _check_text(entry, line, where)
    try:
        audio = Path(name).expanduser()
    except RuntimeError:  # ~name of nobody
        audio = Path(name)
    identity = entry.get("id")
    unnamed = str(audio.with_suffix("") if audio.name else audio)

    def text(key: str) -> str | None:
        return None if entry.get(key) is None else str(entry[key])

    return Utterance(
        id=unnamed if identity is None or identity == "" else str(identity),
        audio=audio if audio.is_absolute() else path.parent / audio,
        text=text("text"),
        duration=_seconds(entry, "duration", where),
        speaker=text("speaker"),
        start=_seconds(entry, "offset", where) or 0.0,
        extra={k: v for k, v in entry.items() if k not in _KNOWN},
    )


def _check_text(entry: Mapping[str, Any], line: str, where: str) -> None:
    """Refuse keys whose text cannot be written, or that are no text."""
    if "\\u" in line:  # only an escape can stand for half of a character
        try:
            json.dumps(entry, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = f"\\u{ord(error.object[error.start]):04x}"
            raise UserError(
                f"{where}: {half} is half of a character (a lone surrogate), expected text; write the line again"
            ) from error
    for key in ("id", "text", "speaker"):
        if isinstance(entry.get(key), (list, dict, bool)):
            raise UserError(f"{where}: '{key}' is {str(entry[key])[:80]!r}, expected text; correct it")
    for key in ("id", "audio_filepath"):
        if problem := bad_name(str(entry.get(key) or "")):
            raise UserError(
                f"{where}: '{key}' is {str(entry[key])[:80]!r}, with {problem}, expected plain text; rename it"
            )


def _seconds(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    """A time of an entry, None where it has none."""
    value = entry.get(key)
    if value is None or value == "":
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds <= LONGEST:
        raise UserError(
            f"{where}: '{key}' is {str(value)[:40]!r}, expected seconds from 0 to {LONGEST:.0f}; correct it"
        )
    return seconds
