"""Caches of a search over rows: once per utterance where rows share them, once per row where they do not.

A search is a set of N rows (segment x beam, or utterance x beam). Row n belongs to utterance ``owner[n]``; it reads
that utterance's cross-attention keys and values and its prefix up to ``prefix_length[n]``, and owns only its suffix:
the tokens that it has generated itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.transfer import numbers_on

_FEW = 8  # tokens up to which a CPU is faster without a matrix kernel


@dataclass(frozen=True)
class CrossCache:
    """Keys and values of the encoder output, one tensor (B, H, T, d) per layer; ``mask`` (B, 1, 1, T) or None."""

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None

    def select(self, utterances: Sequence[int]) -> CrossCache:
        """The caches of the given utterances, in that order."""
        [index] = numbers_on(self.keys[0].device, utterances)
        mask = None if self.mask is None else self.mask[index]
        return CrossCache([k[index] for k in self.keys], [v[index] for v in self.values], mask)


@dataclass(frozen=True)
class PrefixCache:
    """Self-attention keys and values of the prefix tokens, one tensor (B, H, P, d) per layer."""

    keys: list[Tensor]
    values: list[Tensor]


@dataclass(frozen=True)
class SuffixCache:
    """Self-attention keys and values of each row's own tokens, one tensor (N, H, S, d) per layer."""

    keys: list[Tensor]
    values: list[Tensor]

    def select(self, parents: Tensor) -> SuffixCache:
        """The caches of the rows ``parents`` (N',), in that order."""
        keys, values = ([x.index_select(0, parents) for x in each] for each in (self.keys, self.values))
        return SuffixCache(keys, values)


@dataclass(frozen=True)
class RowLayout:
    """The utterance of each row, and its index in the padded grid (B, R) that attention uses.

    ``owner`` (N,) is sorted; ``slot`` (N,) is the row's index in the flattened grid, None when the grid has
    no padding. ``prefix_length`` (N,) counts the prefix tokens that the row may see.
    """

    owner: Tensor
    prefix_length: Tensor
    batch: int
    width: int
    slot: Tensor | None

    @staticmethod
    def of(owner: Tensor, prefix_length: Tensor, batch: int) -> RowLayout:
        """Lay out rows sorted by owner."""
        rows = len(owner)
        if batch == 1:
            return RowLayout(owner, prefix_length, 1, rows, None)
        counts = torch.bincount(owner, minlength=batch)
        width = int(counts.max())
        if width * batch == rows:
            return RowLayout(owner, prefix_length, batch, width, None)
        rank = torch.arange(rows, device=owner.device) - (counts.cumsum(0) - counts)[owner]
        return RowLayout(owner, prefix_length, batch, width, owner * width + rank)

    def to_grid(self, x: Tensor) -> Tensor:
        """Rows (N, H, d) to the grid (B, H, R, d)."""
        if self.slot is not None:
            x = x.new_zeros(self.batch * self.width, *x.shape[1:]).index_copy_(0, self.slot, x)
        return x.view(self.batch, self.width, *x.shape[1:]).transpose(1, 2)

    def to_rows(self, grid: Tensor) -> Tensor:
        """The grid (B, H, R, d) to rows (N, H, d)."""
        x = grid.transpose(1, 2).flatten(0, 1)
        return x if self.slot is None else x[self.slot]


# A row's products with its own keys and values are too small for a matrix kernel. On a CPU the order of the operands decides: with 10 to
# 180 rows of 4 heads of 64, q @ k.T takes a fifth of the time of k @ q from 8 tokens on; below, elementwise products take half or less.


def suffix_scores(q: Tensor, k: Tensor) -> Tensor:
    """Products (N, H, S) of queries ``q`` (N, H, d) with each row's own keys ``k`` (N, H, S, d)."""
    if _elementwise(k):
        return (k * q.unsqueeze(2)).sum(3)
    return (q.unsqueeze(2) @ k.transpose(2, 3)).squeeze(2)


def suffix_values(weights: Tensor, v: Tensor) -> Tensor:
    """Sums (N, H, d) of each row's own values ``v`` (N, H, S, d), weighted by ``weights`` (N, H, S)."""
    if _elementwise(v):
        return (v * weights.unsqueeze(3)).sum(2)
    return (weights.unsqueeze(2) @ v).squeeze(2)


def _elementwise(x: Tensor) -> bool:
    """Few tokens on a CPU; narrower types would round every product, a matrix kernel sums in float32."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.size(2) < _FEW
