"""Long recordings: the records of their pieces put together again, with times counted from the start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from parlab.data.pauses import PART
from parlab.data.utterance import Utterance

_CHAINED = ("tokens", "token_text", "token_confidence")  # lists that are only put one after another
_SUMMED = ("score", "seconds")


def join_pieces(
    records: Sequence[dict[str, Any]], recordings: Sequence[Utterance], pieces: Sequence[Utterance]
) -> list[dict[str, Any]]:
    """Records sorted by id, in which those of pieces are replaced by one of their recording.

    Args:
        records: of all that was decoded.
        recordings: what the user asked for, with the references.
        pieces: what was decoded instead (``cut_at_pauses``).
    """
    of = {p.id: p for p in pieces if PART in p.extra}
    held: dict[str, list[dict[str, Any]]] = defaultdict(list)
    whole: list[dict[str, Any]] = []
    for record in records:
        if record["id"] in of:
            held[str(of[record["id"]].extra[PART])].append(record)
        else:
            whole.append(record)
    known = {u.id: u for u in recordings}
    whole += [_joined(known[name], parts, of) for name, parts in held.items()]
    return sorted(whole, key=lambda r: r["id"])


def _joined(recording: Utterance, parts: list[dict[str, Any]], of: dict[str, Utterance]) -> dict[str, Any]:
    parts = sorted(parts, key=lambda r: of[r["id"]].start)
    out: dict[str, Any] = {"id": recording.id, "text": " ".join(p["text"] for p in parts if p["text"])}
    if recording.text is not None:
        out["ref"] = recording.text
    if recording.speaker is not None:
        out["speaker"] = recording.speaker
    out |= {key: [value for p in parts for value in p[key]] for key in _CHAINED}
    starts = [of[p["id"]].start - recording.start for p in parts]
    for key in ("token_times", "times"):
        if all(key in p for p in parts):
            out[key] = [_later(value, start) for p, start in zip(parts, starts, strict=True) for value in p[key]]
    # Segments count draft tokens: the draft of a piece has its tokens, less the fills, plus what they replaced.
    segments, before = [], 0
    for p in parts:
        segments += [{**s, "start": s["start"] + before, "end": s["end"] + before} for s in p["segments"]]
        before += len(p["tokens"]) + sum(s["end"] - s["start"] - len(s["fill"]) for s in p["segments"])
    out["segments"] = segments
    out |= {key: round(sum(p[key] or 0.0 for p in parts), 6) for key in _SUMMED}
    out["duration"] = round(sum(p["duration"] for p in parts), 4)
    out["audio"] = str(recording.audio)
    names = sorted({name for p in parts for name in p["counts"]})
    out["counts"] = {name: sum(p["counts"].get(name, 0) for p in parts) for name in names}
    out["pieces"] = [
        {"id": p["id"], "start": round(start, 3), "duration": p["duration"], "text": p["text"]}
        for p, start in zip(parts, starts, strict=True)
    ]
    timing = [p["timing"] for p in parts]
    out["timing"] = {name: sum(t.get(name, 0.0) for t in timing) for name in timing[0]}
    out["rank"] = parts[0].get("rank", 0)
    return out


def _later(timed: Sequence[Any], start: float) -> list[Any]:
    """(start, end, ...) moved by ``start`` seconds."""
    return [round(timed[0] + start, 3), round(timed[1] + start, 3), *timed[2:]]
