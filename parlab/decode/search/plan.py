"""Where groups lie in a grid of fixed size: tiles of groups of one utterance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.transfer import numbers_on

TILES = (8, 4, 2, 1)  # groups that a tile may hold
FIRST_CAPACITY = 16  # tokens that caches have room for at first; the room is doubled when it is full


def bucket(size: int) -> int:
    """The next size that is a multiple of a fourth of a power of two: few sizes, of which at most a fifth is padding."""
    if size <= 8:
        return size
    step = 2 ** max(size.bit_length() - 3, 0)
    return -(-size // step) * step


@dataclass(frozen=True)
class Plan:
    """Slots for G groups, K rows each: slot s lies in tile s // tile, and row r in slot r // K.

    Attributes:
        tile: groups of one utterance that a tile holds; they share its caches.
        beam: K.
        source: (slots,) the group of each slot; slots without one repeat another group.
        real: (slots,) false where a slot has no group of its own.
        slot: (slots,) slot of each of the G groups, then anything.
    """

    tile: int
    beam: int
    source: Tensor
    real: Tensor
    slot: Tensor

    @staticmethod
    def of(owner: Sequence[int], beam: int, device: torch.device) -> Plan:
        """The largest tiles of which half of the slots are used.

        Args:
            owner: utterance of each of G groups, sorted.
        """
        counts = Counter(owner)

        def tiles(size: int) -> int:
            return sum(-(-count // size) for count in counts.values())

        tile = next(size for size in TILES if 2 * len(owner) >= size * tiles(size))
        source: list[int] = []
        slot: list[int] = []
        real: list[bool] = []
        group = 0
        for count in counts.values():
            size = -(-count // tile) * tile
            slot += range(len(source), len(source) + count)
            source += [group + min(i, count - 1) for i in range(size)]
            real += [i < count for i in range(size)]
            group += count
        padding = bucket(len(source) // tile) * tile - len(source)
        numbers = numbers_on(
            device,
            [*source, *[0] * padding],
            [*real, *[False] * padding],
            [*slot, *[0] * (len(real) + padding - len(slot))],
        )
        return Plan(tile, beam, numbers[0], numbers[1].bool(), numbers[2])

    @property
    def slots(self) -> int:
        """Slots of the grid, with and without a group."""
        return len(self.source)

    def rows(self) -> Tensor:
        """The slot of each row (slots x K,)."""
        return torch.arange(self.slots * self.beam, device=self.source.device) // self.beam

    def per_tile(self, of_slot: Tensor) -> Tensor:
        """The value of each tile, from those of the slots (slots,), which are the same within a tile."""
        return of_slot[:: self.tile]


def padded(x: Tensor, dim: int, size: int) -> Tensor:
    """``x`` with zeros after it along a dimension, up to ``size``."""
    missing = size - x.size(dim)
    if missing <= 0:
        return x
    shape = list(x.shape)
    shape[dim] = missing
    return torch.cat([x, x.new_zeros(shape)], dim)
