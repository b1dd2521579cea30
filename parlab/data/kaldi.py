"""Kaldi data folders."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from parlab.data.utterance import LONGEST, S2T_FIELDS, Utterance, find_relative, read_lines
from parlab.errors import UserError


def read_kaldi(folder: Path) -> list[Utterance]:
    """A folder with ``wav.scp`` of audio files, and where they exist ``text``, ``utt2spk``, ``utt2dur``, ``segments``.

    Raises:
        UserError: an entry is a pipe or a position in an archive, an id occurs twice in a file, a line is malformed,
            or ``text`` has none of the utterances.
    """
    paths = {name: _audio(name, path, folder) for name, path in _table(folder / "wav.scp").items()}
    texts, speakers, durations = (_table(folder / name, optional=True) for name in ("text", "utt2spk", "utt2dur"))
    extra = {name: _table(folder / name, optional=True) for name in S2T_FIELDS}

    def utterance(name: str, audio: Path, start: float = 0.0, duration: float | None = None) -> Utterance:
        more = {key: table[name] for key, table in extra.items() if name in table}
        return Utterance(name, audio, texts.get(name), duration, speakers.get(name), start, more)

    if not (folder / "segments").is_file():
        found = [
            utterance(
                name, audio, 0.0, _seconds(folder / "utt2dur", name, durations[name]) if name in durations else None
            )
            for name, audio in paths.items()
        ]
    else:
        found = [utterance(name, paths[part], start, length) for name, part, start, length in _segments(folder, paths)]
    if texts and found and not any(u.id in texts for u in found):
        raise UserError(
            f"{folder / 'text'}: none of its {len(texts)} ids is one of the {len(found)} utterances, the first are "
            f"'{next(iter(texts))}' and '{found[0].id}'; correct the ids, or remove text where there are no references"
        )
    return found


def _segments(folder: Path, paths: Mapping[str, Path]) -> Iterator[tuple[str, str, float, float | None]]:
    """Utterance, recording, start and duration (both in seconds); Kaldi writes -1 for the end of the recording."""
    for name, fields in _table(folder / "segments").items():
        parts = fields.split()
        if len(parts) != 3 or parts[0] not in paths:
            raise UserError(
                f"{folder / 'segments'}: '{name} {fields}' is no line 'utterance recording start end' of a recording in "
                "wav.scp; correct it"
            )
        start, end = (_seconds(folder / "segments", name, part) for part in parts[1:])
        if start < 0 or end <= start and end != -1:
            raise UserError(
                f"{folder / 'segments'}: '{name}' goes from {start} to {end} s, expected an end after the start; correct it"
            )
        yield name, parts[0], start, None if end == -1 else end - start


def _table(path: Path, optional: bool = False) -> dict[str, str]:
    """``id rest of line``, separated by spaces or tabs."""
    if optional and not path.is_file():
        return {}
    rows: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        name, *rest = line.strip().split(maxsplit=1)
        if name in rows:
            raise UserError(f"{path}, lines {lines[name]} and {number}: both have the id '{name}'; rename one")
        rows[name], lines[name] = (rest[0] if rest else ""), number
    return rows


def _audio(name: str, path: str, folder: Path) -> Path:
    if path.endswith("|"):
        raise UserError(
            f"{folder / 'wav.scp'}: '{name}' is a pipe ({path[:60]}), expected an audio file; commands are not run, "
            "write the audio to files first"
        )
    if not path or re.search(r"\.ark:\d+$", path):
        raise UserError(
            f"{folder / 'wav.scp'}: '{name}' has the path '{path}', expected an audio file; write the audio to files first"
        )
    return find_relative(path, folder)


def _seconds(path: Path, name: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not abs(seconds) <= LONGEST:
        raise UserError(f"{path}: '{name}' has the time '{value}', expected seconds up to {LONGEST:.0f}; correct it")
    return seconds
