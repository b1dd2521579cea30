"""Where utterances come from: JSONL manifests, Kaldi folders, Lhotse cuts, audio files and folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parlab.data.audio import SUFFIXES
from parlab.errors import UserError

S2T_FIELDS = ("text_prev", "text_ctc", "lang", "task")


@dataclass(frozen=True)
class Utterance:
    """One thing to decode. ``start`` and ``duration`` are seconds; ``extra`` holds S2T fields and the rest."""

    id: str
    audio: Path
    text: str | None = None
    duration: float | None = None
    speaker: str | None = None
    start: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_data(source: str | Path | Sequence[str | Path], limit: int | None = None) -> list[Utterance]:
    """Read utterances of any supported kind; a missing audio file is found out only when it is loaded.

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
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"the folder {path} holds neither wav.scp nor audio files; name a manifest or another folder")
        return [Utterance(str(p.relative_to(path).with_suffix("")), p) for p in files]
    if not path.is_file():
        raise UserError(f"the data {path} does not exist, expected a manifest, a Kaldi folder, cuts or audio; check the path")
    if path.suffix.lower() in SUFFIXES:
        return [Utterance(path.stem, path)]
    if path.name.endswith((".jsonl", ".json")):
        return _read_cuts(path) if _first_line_is_cut(path) else read_manifest(path)
    if path.name.endswith((".jsonl.gz", ".json.gz")):
        return _read_cuts(path)
    raise UserError(
        f"the data {path} is of no known kind, expected .jsonl, a Kaldi folder, Lhotse cuts or audio; name one of these"
    )


def read_manifest(path: Path) -> list[Utterance]:
    """A JSONL manifest: ``id``, ``audio_filepath``, ``duration``, ``text``, ``speaker`` (only the path is a must)."""
    found: list[Utterance] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number}: no valid JSON ({error.msg}); correct the line") from error
        if not isinstance(entry, dict) or "audio_filepath" not in entry:
            raise UserError(f"{path}, line {number}: the key 'audio_filepath' is missing; add it")
        audio = Path(str(entry["audio_filepath"])).expanduser()
        name = str(entry.get("id") or audio.with_suffix(""))
        if name in lines:
            raise UserError(f"{path}, lines {lines[name]} and {number}: both have the id '{name}'; rename one")
        lines[name] = number
        known = {"id", "audio_filepath", "text", "duration", "speaker", "offset"}
        try:
            utterance = Utterance(
                id=name,
                audio=audio if audio.is_absolute() else path.parent / audio,
                text=None if entry.get("text") is None else str(entry["text"]),
                duration=None if entry.get("duration") is None else float(entry["duration"]),
                speaker=None if entry.get("speaker") is None else str(entry["speaker"]),
                start=float(entry.get("offset") or 0.0),
                extra={k: v for k, v in entry.items() if k not in known},
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}, line {number}: duration or offset is no number ({error}); correct it") from error
        found.append(utterance)
    return found


def read_kaldi(folder: Path) -> list[Utterance]:
    """A Kaldi data folder: ``wav.scp`` with files, ``text``, ``utt2spk``, and ``segments`` if there are any."""
    recordings = _table(folder / "wav.scp")
    for name, place in recordings.items():
        if place.endswith("|"):
            raise UserError(
                f"{folder / 'wav.scp'}: '{name}' is a pipe ({place[:60]}), expected an audio file; commands are not run, "
                "write the audio to files first"
            )
    paths = {name: _kaldi_path(place, folder) for name, place in recordings.items()}
    texts = _table(folder / "text", optional=True)
    speakers = _table(folder / "utt2spk", optional=True)
    extra = {name: _table(folder / name, optional=True) for name in S2T_FIELDS}

    def utterance(name: str, audio: Path, start: float = 0.0, duration: float | None = None) -> Utterance:
        more = {key: table[name] for key, table in extra.items() if name in table}
        return Utterance(name, audio, texts.get(name), duration, speakers.get(name), start, more)

    if not (folder / "segments").is_file():
        return [utterance(name, audio) for name, audio in paths.items()]
    found = []
    for name, fields in _table(folder / "segments").items():
        parts = fields.split()
        if len(parts) != 3 or parts[0] not in paths:
            raise UserError(
                f"{folder / 'segments'}: '{name} {fields}' is no line 'utterance recording start end' of a recording in "
                "wav.scp; correct it"
            )
        start, end = float(parts[1]), float(parts[2])
        found.append(utterance(name, paths[parts[0]], start, end - start))
    return found


def _table(path: Path, optional: bool = False) -> dict[str, str]:
    if optional and not path.is_file():
        return {}
    rows: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            if name in rows:
                raise UserError(f"{path}, line {number}: the id '{name}' occurs twice; rename one")
            rows[name] = rest.strip()
    return rows


def _kaldi_path(place: str, folder: Path) -> Path:
    """Kaldi paths are relative to wherever the recipe ran: try the working folder, then the folder and its parents."""
    path = Path(place)
    bases = [Path(), folder, *list(folder.resolve().parents)[:3]]
    return next((base / path for base in bases if (base / path).is_file()), path)


def _first_line_is_cut(path: Path) -> bool:
    with path.open(encoding="utf-8") as lines:
        first = lines.readline()
    return '"recording"' in first or '"type": "MonoCut"' in first


def _read_cuts(path: Path) -> list[Utterance]:
    from lhotse import CutSet

    found = []
    try:
        cuts: Iterable[Any] = CutSet.from_file(path)
        for cut in cuts:
            source = cut.recording.sources[0].source
            place = Path(source) if Path(source).is_absolute() or Path(source).is_file() else path.parent / source
            one = cut.supervisions[0] if cut.supervisions else None
            found.append(
                Utterance(cut.id, place, one.text if one else None, cut.duration, one.speaker if one else None, cut.start)
            )
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as Lhotse cuts ({str(error).splitlines()[0][:120]}), expected a CutSet manifest; "
            "write it again with CutSet.to_file"
        ) from error
    return found
