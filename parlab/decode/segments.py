"""Segments: runs of adjacent masked draft tokens, with their neighbours and windows of frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.draft import Draft
from parlab.types import Segment

NO_TOKEN = -1  # the neighbour at an utterance's edge


@dataclass(frozen=True)
class Segments:
    """S segments of a batch, sorted by utterance, then by place.

    Attributes:
        owner: (S,) utterance.
        start, end: (S,) first draft token and the one after the last.
        left, right: (S,) ids of the neighbours, ``NO_TOKEN`` at the edges of the utterance.
        first, last: (S,) frames of the window: after the left neighbour's run, before the right one's.
    """

    owner: Tensor
    start: Tensor
    end: Tensor
    left: Tensor
    right: Tensor
    first: Tensor
    last: Tensor

    def __len__(self) -> int:
        return len(self.owner)

    def chunk(self, begin: int, end: int) -> Segments:
        """The segments ``begin`` to ``end`` (exclusive)."""
        names = ("owner", "start", "end", "left", "right", "first", "last")
        return Segments(*(getattr(self, name)[begin:end] for name in names))


def mask_below(draft: Draft, threshold: float) -> Tensor:
    """True (B, U) where a token's confidence is below ``threshold`` (design.md, section 3, step 2)."""
    inside = torch.arange(draft.tokens.size(1), device=draft.tokens.device) < draft.lengths.unsqueeze(1)
    return (draft.confidence < threshold) & inside


def find_segments(draft: Draft, masked: Tensor) -> Segments:
    """Merge adjacent masked tokens of ``masked`` (B, U) into segments."""
    edge = masked.new_zeros(len(masked), 1)
    padded = torch.cat([edge, masked, edge], 1)
    owner, start = (padded[:, 1:] & ~padded[:, :-1]).nonzero(as_tuple=True)
    _, end = (padded[:, :-1] & ~padded[:, 1:]).nonzero(as_tuple=True)
    at_start, at_end = start == 0, end == draft.lengths[owner]
    before, after = (start - 1).clamp(min=0), end.clamp(max=max(masked.size(1) - 1, 0))
    frames = draft.frames[owner]
    return Segments(
        owner=owner,
        start=start,
        end=end,
        left=draft.tokens[owner, before].masked_fill(at_start, NO_TOKEN),
        right=draft.tokens[owner, after].masked_fill(at_end, NO_TOKEN),
        first=(draft.last[owner, before] + 1).masked_fill(at_start, 0),
        last=torch.where(at_end, frames - 1, draft.first[owner, after] - 1),
    )


@dataclass(frozen=True)
class Assembled:
    """An utterance put together again: kept draft tokens and fills."""

    tokens: tuple[int, ...]
    confidence: tuple[float, ...]
    frames: tuple[tuple[int, int], ...]


def assemble(
    tokens: list[int],
    confidence: list[float],
    frames: list[tuple[int, int]],
    segments: list[Segment],
    fill_confidence: list[list[float]],
    windows: list[tuple[int, int]],
) -> Assembled:
    """Replace each segment of a draft by its fill.

    A token of a fill has no run of frames of its own; it gets an even share of the segment's window.
    """
    out: list[int] = []
    scores: list[float] = []
    spans: list[tuple[int, int]] = []
    place = 0
    for segment, fill_scores, (first, last) in zip(segments, fill_confidence, windows, strict=True):
        out += tokens[place : segment.start]
        scores += confidence[place : segment.start]
        spans += frames[place : segment.start]
        out += segment.fill
        scores += fill_scores
        count, width = len(segment.fill), last - first + 1
        spans += [(first + i * width // count, max(first + (i + 1) * width // count - 1, first)) for i in range(count)]
        place = segment.end
    out += tokens[place:]
    return Assembled(tuple(out), tuple(scores + confidence[place:]), tuple(spans + frames[place:]))
