"""Utterances put together again: confident draft tokens, and fills in place of the segments."""

from __future__ import annotations

from collections.abc import Sequence

from parlab.decode.draft import Draft, draft_hypotheses
from parlab.decode.fills import Fill
from parlab.decode.segments import Segments
from parlab.types import Hypothesis, Segment

Span = tuple[int, int]


def unmasked(draft: Draft) -> list[Hypothesis]:
    """Drafts of which every token is trusted; the score, that of the fills, is 0."""
    return [_filled(greedy, [], []) for greedy in draft_hypotheses(draft)]


def assemble(draft: Draft, segments: Segments, fills: Sequence[Fill]) -> list[Hypothesis]:
    """B hypotheses: each segment of the drafts replaced by its fill; the score is the sum of the fills' scores."""
    owners = segments.owner.tolist()
    windows = list(zip(segments.first.tolist(), segments.last.tolist(), strict=True))
    ranges = list(zip(segments.start.tolist(), segments.end.tolist(), strict=True))
    out = []
    for i, greedy in enumerate(draft_hypotheses(draft)):
        own = [s for s, owner in enumerate(owners) if owner == i]
        parts = [
            (
                Segment(*ranges[s], greedy.tokens[slice(*ranges[s])], fills[s].tokens, fills[s].score, fills[s].forced),
                fills[s],
            )
            for s in own
        ]
        out.append(_filled(greedy, parts, [windows[s] for s in own]))
    return out


def _filled(greedy: Hypothesis, parts: Sequence[tuple[Segment, Fill]], windows: Sequence[Span]) -> Hypothesis:
    """One utterance. A token of a fill has no run of frames of its own; it gets an even share of the segment's window."""
    tokens: list[int] = []
    confidence: list[float] = []
    frames: list[Span] = []
    kept = 0
    for (segment, fill), (first, last) in zip(parts, windows, strict=True):
        tokens += [*greedy.tokens[kept : segment.start], *segment.fill]
        confidence += [*greedy.token_confidence[kept : segment.start], *fill.confidence]
        frames += greedy.token_frames[kept : segment.start]
        count, width = len(segment.fill), last - first + 1
        frames += [(first + i * width // count, max(first + (i + 1) * width // count - 1, first)) for i in range(count)]
        kept = segment.end
    return Hypothesis(
        tokens=(*tokens, *greedy.tokens[kept:]),
        score=sum(segment.score for segment, _ in parts) if parts else 0.0,
        token_confidence=(*confidence, *greedy.token_confidence[kept:]),
        token_frames=(*frames, *greedy.token_frames[kept:]),
        segments=tuple(segment for segment, _ in parts),
        counts=_counts(len(greedy.tokens), parts),
    )


def _counts(tokens: int, parts: Sequence[tuple[Segment, Fill]]) -> dict[str, float]:
    """What the metrics add up; steps are those of the utterance's longest search."""
    return {
        "tokens": tokens,
        "masked_tokens": sum(segment.end - segment.start for segment, _ in parts),
        "segments": len(parts),
        "decoder_passes": 1 if parts else 0,
        "decoder_steps": max((fill.steps for _, fill in parts), default=0),
        "forced_stops": sum(fill.forced for _, fill in parts),
    }
