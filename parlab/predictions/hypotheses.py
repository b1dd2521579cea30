"""``hypotheses.jsonl``: a typed record per utterance, its one writer and its one reader (``docs/formats.md``)."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.predictions.files import Json, write_jsonl
from parlab.text.tokenizer import Tokenizer
from parlab.types import Hypothesis, Segment

NAME = "hypotheses.jsonl"
T = TypeVar("T")


@dataclass(frozen=True)
class SegmentRecord:
    """A masked segment: draft tokens ``start`` to ``end`` (exclusive), their ids and texts, and what replaced them."""

    start: int
    end: int
    draft: tuple[int, ...]
    fill: tuple[int, ...]
    draft_text: tuple[str, ...] = ()
    fill_text: tuple[str, ...] = ()
    score: float | None = None
    forced: bool = False


@dataclass(frozen=True)
class Alternative:
    """An entry of an n-best list."""

    text: str
    score: float | None


@dataclass(frozen=True)
class Piece:
    """A piece of a long recording: where it starts (s from the recording's start), its duration (s) and text."""

    id: str
    start: float
    duration: float
    text: str


@dataclass(frozen=True)
class UtteranceRecord:
    """A line of ``hypotheses.jsonl``.

    Attributes:
        ref: the reference, where it is known; ``speaker`` likewise.
        tokens, token_text: ids of the decoded tokens, and their entries of the token list.
        token_confidence: a probability per token, None where it is not known.
        token_frames: first and last encoder frame of each token; empty where the decoder knows none.
        token_times: start and end of each token, s; likewise.
        segments: the masked segments (PAR only).
        score: the decoder's score; None where nothing was found.
        duration: seconds of audio.
        counts: what the decoder counted.
        times: (start, end, text) in seconds, as an S2T decoder timed itself.
        nbest: all results, best first, where more than one was asked for.
        pieces: of a long recording.
        seconds: share of the decoding time, s; None where nothing was timed.
    """

    id: str
    text: str
    ref: str | None = None
    speaker: str | None = None
    tokens: tuple[int, ...] = ()
    token_text: tuple[str, ...] = ()
    token_confidence: tuple[float | None, ...] = ()
    token_frames: tuple[tuple[int, int], ...] = ()
    token_times: tuple[tuple[float, float], ...] = ()
    segments: tuple[SegmentRecord, ...] = ()
    score: float | None = None
    duration: float | None = None
    audio: str | None = None
    counts: Mapping[str, int | float] = field(default_factory=dict)
    times: tuple[tuple[float, float, str], ...] = ()
    nbest: tuple[Alternative, ...] = ()
    pieces: tuple[Piece, ...] = ()
    seconds: float | None = None

    @staticmethod
    def of(
        utterance: Utterance,
        hypothesis: Hypothesis,
        tokenizer: Tokenizer,
        duration: float,
        seconds: float | None = None,
    ) -> UtteranceRecord:
        """What is written of a decoded utterance, rounded to digits that the number of threads does not change."""
        texts = tokenizer.token_list

        def segment(s: Segment) -> SegmentRecord:
            draft, fill = (tuple(texts[i] for i in ids) for ids in (s.draft, s.fill))
            return SegmentRecord(s.start, s.end, s.draft, s.fill, draft, fill, rounded(s.score), s.forced)

        return UtteranceRecord(
            id=utterance.id,
            text=hypothesis.text,
            ref=utterance.text,
            speaker=utterance.speaker,
            tokens=hypothesis.tokens,
            token_text=tuple(texts[i] for i in hypothesis.tokens),
            token_confidence=tuple(round(c, 4) for c in hypothesis.token_confidence),
            token_frames=hypothesis.token_frames,
            token_times=hypothesis.token_times,
            segments=tuple(segment(s) for s in hypothesis.segments),
            score=rounded(hypothesis.score),
            duration=round(duration, 4),
            audio=str(utterance.audio),
            counts=dict(hypothesis.counts),
            times=hypothesis.times,
            nbest=tuple(Alternative(tokenizer.decode(h.tokens), rounded(h.score)) for h in hypothesis.nbest),
            seconds=seconds,
        )

    def to_json(self) -> dict[str, Json]:
        """The line; what is optional is left out where it says nothing."""
        line = dict(vars(self))
        for name in _NESTED:
            line[name] = [dict(vars(entry)) for entry in line[name]]
        return {name: value for name, value in line.items() if name not in _OPTIONAL or value not in (None, (), [])}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> UtteranceRecord:
        """Read a line; of what is optional, the words of the text stand for missing tokens.

        Raises:
            KeyError, TypeError, ValueError: it is no utterance.
        """
        known = {name: entry[name] for name in _NAMES if entry.get(name) is not None}
        for name, value in known.items():
            if name in _NESTED:
                known[name] = tuple([read_fields(_NESTED[name], each) for each in value])
            elif name in _LISTS:
                known[name] = tuple(value)
            elif name in _SPANS:
                known[name] = tuple(map(tuple, value))
        known |= {"id": str(entry["id"]), "text": str(entry["text"])}
        if entry.get("token_text") is None:
            known |= {"token_text": tuple(known["text"].split()), "token_confidence": (), "segments": ()}
        if len(known.get("token_confidence", ())) != len(known["token_text"]):
            known["token_confidence"] = (None,) * len(known["token_text"])
        return UtteranceRecord(**known)


_NAMES = tuple(UtteranceRecord.__dataclass_fields__)
_NESTED: dict[str, type] = {"segments": SegmentRecord, "nbest": Alternative, "pieces": Piece}
_LISTS = ("tokens", "token_text", "token_confidence")
_SPANS = ("token_frames", "token_times", "times")
_OPTIONAL = ("ref", "speaker", "times", "nbest", "pieces")


def read_fields(kind: type[T], entry: Mapping[str, Any]) -> T:
    """A dataclass from a JSON object; keys that it does not have are passed over, lists become tuples."""
    names = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k in names})


def rounded(score: float) -> float | None:
    """A score for JSON, which has no word for infinity."""
    return round(score, 3) if math.isfinite(score) else None


def write_hypotheses(folder: Path, records: Sequence[UtteranceRecord]) -> None:
    """Write the records, which are sorted by id, into a prediction's folder."""
    write_jsonl(folder / NAME, [record.to_json() for record in records])


def read_hypotheses(folder: Path) -> list[UtteranceRecord]:
    """All records of a prediction's folder, sorted by id.

    Raises:
        OSError: the file cannot be read.
        UserError: a line is no utterance, or an id occurs twice.
    """
    with no_collection():
        records = _records(folder)
    return [records[name] for name in sorted(records)]


@contextmanager
def no_collection() -> Iterator[None]:
    """Keep Python from looking for circles among objects that have none: it takes a fifth of the reading of 50,000 lines."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@cache
def _reader() -> Callable[[bytes], UtteranceRecord]:
    """Reads a line three times as fast as ``from_json``; what is not of the record's types it refuses."""
    import msgspec

    return msgspec.json.Decoder(UtteranceRecord).decode


def _as_written(line: bytes) -> UtteranceRecord | None:
    """The record of a line as ``predict`` writes it; None where ``from_json`` has to look."""
    try:
        record = _reader()(line)
    except ValueError:  # as a number for an id, NaN, or no JSON
        return None
    return record if record.token_text and len(record.token_confidence) == len(record.token_text) else None


def _records(folder: Path) -> dict[str, UtteranceRecord]:
    """The records by id, in the order of the file."""
    records: dict[str, UtteranceRecord] = {}
    for number, line in enumerate((folder / NAME).read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = _as_written(line) or UtteranceRecord.from_json(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{folder}/{NAME}, line {number} is no utterance (no JSON object with id and text); predict again"
            ) from error
        if record.id in records:
            raise UserError(f"{folder}/{NAME} holds '{record.id}' more than once, expected each id once; predict again")
        records[record.id] = record
    return records
