"""Utterances put together again: confident draft tokens, and fills in place of the segments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch

from parlab.decode.fills import Fill
from parlab.decode.segments import Segments
from parlab.types import Hypothesis, Segment

Span = tuple[int, int]


def unmasked(drafts: Sequence[Hypothesis], passes: Sequence[int]) -> list[Hypothesis]:
    """Drafts of which every token is trusted; the score, that of the fills, is 0.

    Args:
        passes: decoder passes over each.
    """
    return [_filled(draft, [], [], (count, 0)) for draft, count in zip(drafts, passes, strict=True)]


def assemble(
    drafts: Sequence[Hypothesis], segments: Segments, fills: Sequence[Fill], work: Sequence[tuple[int, int]]
) -> list[Hypothesis]:
    """B hypotheses: each segment of the drafts replaced by its fill; the score is the sum of the fills' scores.

    Args:
        segments: on the host.
        work: decoder passes and steps of each utterance.
    """
    columns = torch.stack([segments.owner, segments.start, segments.end, segments.first, segments.last], 1).tolist()
    parts: list[list[tuple[Segment, Fill]]] = [[] for _ in drafts]
    windows: list[list[Span]] = [[] for _ in drafts]
    for (owner, start, end, first, last), fill in zip(columns, fills, strict=True):
        segment = Segment(start, end, drafts[owner].tokens[start:end], fill.tokens, fill.score, fill.forced)
        parts[owner].append((segment, fill))
        windows[owner].append((first, last))
    return [_filled(*utterance) for utterance in zip(drafts, parts, windows, work, strict=True)]


def _filled(
    draft: Hypothesis, parts: Sequence[tuple[Segment, Fill]], windows: Sequence[Span], work: tuple[int, int]
) -> Hypothesis:
    """One utterance with its fills.

    A token of a fill has no run of frames of its own: it gets an even share of the segment's window. Where there are more
    tokens than frames, tokens share a frame.
    """
    tokens: list[int] = []
    confidence: list[float] = []
    frames: list[Span] = []
    kept = 0
    for (segment, fill), (first, last) in zip(parts, windows, strict=True):
        tokens += [*draft.tokens[kept : segment.start], *segment.fill]
        confidence += [*draft.token_confidence[kept : segment.start], *fill.confidence]
        frames += draft.token_frames[kept : segment.start]
        count, width = len(segment.fill), last - first + 1
        starts = [first + i * width // max(count, 1) for i in range(count + 1)]
        frames += [(start, max(end - 1, start)) for start, end in pairwise(starts)]
        kept = segment.end
    return Hypothesis(
        tokens=(*tokens, *draft.tokens[kept:]),
        score=sum(segment.score for segment, _ in parts) if parts else 0.0,
        token_confidence=(*confidence, *draft.token_confidence[kept:]),
        token_frames=(*frames, *draft.token_frames[kept:]),
        segments=tuple(segment for segment, _ in parts),
        counts={**_counts(draft, parts), "decoder_passes": work[0], "decoder_steps": work[1]},
    )


def _counts(draft: Hypothesis, parts: Sequence[tuple[Segment, Fill]]) -> dict[str, float]:
    """What the metrics add up."""
    counts: dict[str, float] = {
        "tokens": len(draft.tokens),
        "masked_tokens": sum(segment.end - segment.start for segment, _ in parts),
        "segments": len(parts),
        "forced_stops": sum(fill.forced for _, fill in parts),
    }
    if "corrected_tokens" in draft.counts:
        counts["corrected_tokens"] = draft.counts["corrected_tokens"]
    return counts
