"""Segments: runs of adjacent masked draft tokens, with their neighbours and windows of frames."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from parlab.decode.draft import Draft
from parlab.transfer import to_device

NO_TOKEN = -1  # the neighbour at an utterance's edge


@dataclass(frozen=True)
class Segments:
    """S segments of a batch, sorted by utterance, then by position.

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

    def stops(self, eos: int) -> Tensor:
        """The stop token (S,) of each segment: the next draft token, or ``eos`` after the last."""
        return torch.where(self.right < 0, eos, self.right)

    def to(self, device: torch.device) -> Segments:
        """The segments of the host on a device, by one copy."""
        return Segments(*to_device(device, *(getattr(self, field.name) for field in fields(self))))

    def select(self, index: Tensor) -> Segments:
        """The segments ``index`` (n,)."""
        return Segments(*(getattr(self, field.name)[index] for field in fields(self)))

    def chunk(self, begin: int, end: int) -> Segments:
        """The segments ``begin`` to ``end`` (exclusive)."""
        return Segments(*(getattr(self, field.name)[begin:end] for field in fields(self)))


def find_segments(draft: Draft, masked: Tensor, gaps: Tensor | None = None) -> Segments:
    """Merge adjacent masked tokens of ``masked`` (B, U) into segments.

    Args:
        gaps: (B, U + 1) where a token may be missing, before token u and after the last one: between two tokens that are not
            masked this is a segment of no tokens.
    """
    # A segment starts where a mask follows no mask, and ends where none follows a mask.
    edge = masked.new_zeros(len(masked), 1)
    padded = torch.cat([edge, masked, edge], 1)
    owner, start = (padded[:, 1:] & ~padded[:, :-1]).nonzero(as_tuple=True)
    _, end = (padded[:, :-1] & ~padded[:, 1:]).nonzero(as_tuple=True)
    if gaps is not None:
        utterance, place = (gaps & ~padded[:, 1:] & ~padded[:, :-1]).nonzero(as_tuple=True)
        owner, start, end = (torch.cat(pair) for pair in ((owner, utterance), (start, place), (end, place)))
        order = (owner * padded.size(1) + start).argsort()
        owner, start, end = owner[order], start[order], end[order]
    # Its neighbours are the tokens on both sides; the window of frames lies between their runs.
    at_start, at_end = start == 0, end == draft.lengths[owner]
    before, after = (start - 1).clamp(min=0), end.clamp(max=max(masked.size(1) - 1, 0))
    frames = draft.frames[owner]
    first = (draft.last[owner, before] + 1).masked_fill(at_start, 0)
    last = torch.where(at_end, frames - 1, draft.first[owner, after] - 1)
    return Segments(
        owner=owner,
        start=start,
        end=end,
        left=draft.tokens[owner, before].masked_fill(at_start, NO_TOKEN),
        right=draft.tokens[owner, after].masked_fill(at_end, NO_TOKEN),
        first=first,
        last=torch.maximum(last, first - 1),  # tokens that the decoder has put into a draft share frames
    )
