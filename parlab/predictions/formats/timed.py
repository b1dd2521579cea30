"""Words and segments of recordings with times: SCTK's ``ctm`` and ``stm``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parlab.errors import UserError
from parlab.predictions.formats.texts import numbered
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.subtitles import words_of

_IGNORED = "ignore_time_segment_in_scoring"


@dataclass(frozen=True)
class Word:
    """A word of a ``ctm`` file: its start and duration (s)."""

    start: float
    duration: float
    text: str


@dataclass(frozen=True)
class StmSegment:
    """A segment of an ``stm`` file: who says what from ``start`` to ``end`` (s) of a recording's channel."""

    recording: str
    channel: str
    speaker: str
    start: float
    end: float
    text: str


def read_ctm(path: Path) -> dict[str, list[Word]]:
    """The words of each recording, by their start.

    Raises:
        UserError: a line is none of ``ctm``, or holds an alternative.
    """
    found: dict[str, list[Word]] = {}
    for number, line in numbered(path):
        fields = line.split()
        if len(fields) < 5 or fields[4].startswith("<ALT"):
            raise UserError(
                f"{path}, line {number} is no word, expected 'recording channel start duration word' without alternatives; correct it"
            )
        start, duration = (_seconds(field, f"{path}, line {number}") for field in fields[2:4])
        found.setdefault(fields[0], []).append(Word(start, duration, fields[4]))
    return {name: sorted(words, key=lambda w: w.start) for name, words in found.items()}


def read_stm(path: Path) -> list[StmSegment]:
    """The segments that are scored.

    Raises:
        UserError: a line is none of ``stm``.
    """
    found = []
    for number, line in numbered(path):
        fields = line.split()
        if len(fields) < 5:
            raise UserError(
                f"{path}, line {number} is no segment, expected 'recording channel speaker start end <label> words'; correct it"
            )
        start, end = (_seconds(field, f"{path}, line {number}") for field in fields[3:5])
        words = fields[6:] if len(fields) > 5 and fields[5].startswith("<") and fields[5].endswith(">") else fields[5:]
        if [w.lower() for w in words] != [_IGNORED]:
            found.append(StmSegment(fields[0], fields[1], fields[2], start, end, " ".join(words)))
    return found


def _seconds(field: str, where: str) -> float:
    try:
        seconds = float(field)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise UserError(f"{where} has the time '{field}', expected seconds; correct it")
    return seconds


def texts_of_segments(words: Mapping[str, Sequence[Word]], segments: Mapping[str, StmSegment]) -> dict[str, str]:
    """The words in the middle of whose time a segment lies, for each segment by its id; none is an empty text.

    Raises:
        UserError: a recording has no segment.
    """
    known = {s.recording for s in segments.values()}
    if unknown := sorted(words.keys() - known):
        raise UserError(
            f"the ctm has words of '{unknown[0]}', expected recordings of the references, as '{min(known, default='')}'; correct the names"
        )
    inside: dict[str, list[str]] = {name: [] for name in segments}
    of: dict[str, list[tuple[str, StmSegment]]] = {}
    for name, segment in segments.items():
        of.setdefault(segment.recording, []).append((name, segment))
    for recording, spoken in words.items():
        for word in spoken:
            middle = word.start + word.duration / 2
            for name, segment in of[recording]:
                if segment.start <= middle <= segment.end:
                    inside[name].append(word.text)
                    break
    return {name: " ".join(texts) for name, texts in inside.items()}


def ctm(records: Sequence[UtteranceRecord], normalized: Callable[[str], str]) -> str:
    """The content of a ``ctm`` file: every utterance a recording, its words normalised one by one, with their confidences
    where these are known.

    Raises:
        UserError: the decoder knows no times.
    """
    lines = []
    for record in records:
        words = words_of(record)
        if record.text.split() and not words:
            raise UserError(
                f"'{record.id}' has a text without times, expected token_times in hypotheses.jsonl; decode with greedy, ctc_beam or par, "
                "or leave ctm out"
            )
        for word in words:
            parts = normalized(word.text).split()
            sure = "" if word.confidence is None else f" {word.confidence:.4f}"
            share = (word.end - word.start) / max(len(parts), 1)
            for i, part in enumerate(parts):
                lines.append(f"{record.id} 1 {word.start + i * share:.3f} {share:.3f} {part}{sure}\n")
    return "".join(lines)


def stm(records: Sequence[UtteranceRecord], references: Sequence[str]) -> str:
    """The content of an ``stm`` file: every utterance with a reference as one segment of its own recording."""
    return "".join(
        f"{r.id} 1 {r.speaker or r.id} 0.000 {r.duration or 0.0:.3f} <o> {reference}".rstrip() + "\n"
        for r, reference in zip(records, references, strict=True)
    )
