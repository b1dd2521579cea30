"""Long recordings: the entries of their pieces put together again, with times counted from the start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields, replace

from parlab.data.pauses import PART
from parlab.data.utterance import Utterance
from parlab.metrics.speed import Timing
from parlab.predictions.hypotheses import Piece, SegmentRecord, UtteranceRecord
from parlab.predictions.shards import ShardEntry


def join_pieces(
    entries: Sequence[ShardEntry], recordings: Sequence[Utterance], pieces: Sequence[Utterance]
) -> list[ShardEntry]:
    """Entries sorted by id, in which those of pieces are replaced by one of their recording.

    Args:
        entries: of all that was decoded.
        recordings: what the user asked for, with the references.
        pieces: what was decoded instead (``cut_at_pauses``).
    """
    piece_of = {p.id: p for p in pieces if PART in p.extra}
    parts: dict[str, list[ShardEntry]] = defaultdict(list)
    whole: list[ShardEntry] = []
    for entry in entries:
        piece = piece_of.get(entry.record.id)
        if piece is None:
            whole.append(entry)
        else:
            parts[str(piece.extra[PART])].append(entry)
    known = {u.id: u for u in recordings}
    whole += [_joined(known[name], own, piece_of) for name, own in parts.items()]
    return sorted(whole, key=lambda entry: entry.record.id)


def _joined(recording: Utterance, entries: Sequence[ShardEntry], piece_of: dict[str, Utterance]) -> ShardEntry:
    """One entry of the pieces of a recording."""
    entries = sorted(entries, key=lambda entry: piece_of[entry.record.id].start)
    records = [entry.record for entry in entries]
    starts = [piece_of[r.id].start - recording.start for r in records]
    names = sorted({name for r in records for name in r.counts})
    record = UtteranceRecord(
        id=recording.id,
        text=" ".join(r.text for r in records if r.text),
        ref=recording.text,
        speaker=recording.speaker,
        tokens=tuple(token for r in records for token in r.tokens),
        token_text=tuple(text for r in records for text in r.token_text),
        token_confidence=tuple(confidence for r in records for confidence in r.token_confidence),
        token_times=tuple(
            _later(span, start) for r, start in zip(records, starts, strict=True) for span in r.token_times
        ),
        segments=_segments(records),
        score=round(sum(r.score or 0.0 for r in records), 6),
        duration=round(sum(r.duration or 0.0 for r in records), 4),
        audio=str(recording.audio),
        counts={name: sum(r.counts.get(name, 0) for r in records) for name in names},
        times=tuple(
            (*_later(part[:2], start), part[2]) for r, start in zip(records, starts, strict=True) for part in r.times
        ),
        pieces=tuple(
            Piece(r.id, round(start, 3), r.duration or 0.0, r.text) for r, start in zip(records, starts, strict=True)
        ),
        seconds=round(sum(r.seconds or 0.0 for r in records), 6),
    )
    timing = Timing(*(sum(getattr(entry.timing, f.name) for entry in entries) for f in fields(Timing)))
    return ShardEntry(record, timing, entries[0].rank)


def _segments(records: Sequence[UtteranceRecord]) -> tuple[SegmentRecord, ...]:
    """Segments count draft tokens: the draft of a piece has its tokens, less the fills, plus what they replaced."""
    segments: list[SegmentRecord] = []
    before = 0
    for r in records:
        segments += [replace(s, start=s.start + before, end=s.end + before) for s in r.segments]
        before += len(r.tokens) + sum(s.end - s.start - len(s.fill) for s in r.segments)
    return tuple(segments)


def _later(span: tuple[float, float], start: float) -> tuple[float, float]:
    """A span moved by ``start`` seconds."""
    return round(span[0] + start, 3), round(span[1] + start, 3)
