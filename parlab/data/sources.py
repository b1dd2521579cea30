"""Utterances of all kinds of data: JSONL manifests, Kaldi folders, Lhotse cuts, audio files and folders."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.data.audio import SUFFIXES
from parlab.data.cuts import read_cuts
from parlab.data.kaldi import read_kaldi
from parlab.data.utterance import Utterance, read_lines
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
    except (json.JSONDecodeError, RecursionError):
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
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: no valid JSON ({getattr(error, 'msg', error)}); correct the line") from error
    name = entry.get("audio_filepath") if isinstance(entry, dict) else None
    if name is None:
        raise UserError(f"{where}: the key 'audio_filepath' is missing; add it")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where}: 'audio_filepath' is {name!r}, expected the path of a file; correct it")
    try:
        audio = Path(name).expanduser()
    except RuntimeError:  # ~name of nobody
        audio = Path(name)
    identity = entry.get("id")
    try:
        duration = None if entry.get("duration") is None else float(entry["duration"])
        start = float(entry.get("offset") or 0.0)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where}: duration or offset is no number ({error}); correct it") from error
    if not (duration is None or (math.isfinite(duration) and duration >= 0)) or not (
        math.isfinite(start) and start >= 0
    ):
        raise UserError(f"{where}: duration {duration} and offset {start} must be 0 or more seconds; correct it")

    def text(key: str) -> str | None:
        return None if entry.get(key) is None else str(entry[key])

    extra: dict[str, Any] = {k: v for k, v in entry.items() if k not in _KNOWN}
    unnamed = str(audio.with_suffix("") if audio.name else audio)
    return Utterance(
        id=unnamed if identity is None or identity == "" else str(identity),
        audio=audio if audio.is_absolute() else path.parent / audio,
        text=text("text"),
        duration=duration,
        speaker=text("speaker"),
        start=start,
        extra=extra,
    )
