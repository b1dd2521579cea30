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

    def beginning(self, rows: Tensor, tokens: int) -> PrefixCache:
        """The first tokens of the given rows (n,), in that order."""
        return PrefixCache(*([x[:, :, :tokens][rows] for x in each] for each in (self.keys, self.values)))


@dataclass(frozen=True)
class SuffixCache:
    """Self-attention keys and values of each row's own tokens, one tensor (N, H, S, d) per layer."""

    keys: list[Tensor]
    values: list[Tensor]

    def select(self, parents: Tensor) -> SuffixCache:
        """The caches of the rows ``parents`` (N',), in that order."""
        keys, values = ([x.index_select(0, parents) for x in each] for each in (self.keys, self.values))
        return SuffixCache(keys, values)

    @property
    def length(self) -> int:
        """S, also the room that positions need."""
        return self.keys[0].size(2) if self.keys else 0

    size = length

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with those of the newest token (N, H, 1, d)."""
        if not self.keys:
            return key, value
        return torch.cat([self.keys[layer], key], 2), torch.cat([self.values[layer], value], 2)

    def blind(self) -> Tensor | None:
        """No token of its own is hidden from a row."""
        return None

    def grown(self, keys: list[Tensor], values: list[Tensor]) -> SuffixCache:
        """The cache with a token more."""
        return SuffixCache(keys, values)

    @staticmethod
    def scores(q: Tensor, k: Tensor) -> Tensor:
        """Products (N, H, S) of each row's query (N, H, d) with its keys."""
        return (q.unsqueeze(2) @ k.transpose(2, 3)).squeeze(2)  # k @ q takes a CPU much longer

    @staticmethod
    def mixed(weights: Tensor, v: Tensor) -> Tensor:
        """Each row's values, weighted by (N, H, S): (N, H, d)."""
        return (weights.unsqueeze(2) @ v).squeeze(2)


@dataclass(frozen=True)
class SharedSuffix:
    """Keys and values of one group's tokens, each of them once: rows that go on from one hypothesis share its tokens.

    A beam mostly agrees about all but its newest tokens. One product serves all rows, and a step copies no row's past.

    Attributes:
        keys, values: one tensor (H, n, d) per layer.
        seen: (N, n) true where a token is a row's own.
        length: tokens of each row.
    """

    keys: list[Tensor]
    values: list[Tensor]
    seen: Tensor
    length: int

    @staticmethod
    def empty(like: PrefixCache) -> SharedSuffix:
        """No token, one row."""
        none = [k.new_zeros(k.size(1), 0, k.size(3)) for k in like.keys]
        return SharedSuffix(none, none, torch.ones(1, 0, dtype=torch.bool, device=none[0].device), 0)

    @property
    def size(self) -> int:
        """The room that positions need."""
        return self.length

    def select(self, parents: Tensor) -> SharedSuffix:
        """The tokens of the rows ``parents`` (N,), in that order; those that no row needs go once they are the most."""
        seen = self.seen[parents]
        needed = seen.any(0).nonzero().squeeze(1)
        if 2 * len(needed) > seen.size(1):
            return SharedSuffix(self.keys, self.values, seen, self.length)
        keys, values = ([x.index_select(1, needed) for x in each] for each in (self.keys, self.values))
        return SharedSuffix(keys, values, seen[:, needed], self.length)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with those of the rows' newest tokens (N, H, 1, d)."""
        new = (x.squeeze(2).transpose(0, 1) for x in (key, value))
        return torch.cat([self.keys[layer], next(new)], 1), torch.cat([self.values[layer], next(new)], 1)

    def blind(self) -> Tensor:
        """True (N, 1, n) where a token is another row's, the newest ones included."""
        newest = torch.eye(len(self.seen), dtype=torch.bool, device=self.seen.device)
        return ~torch.cat([self.seen, newest], 1).unsqueeze(1)

    def grown(self, keys: list[Tensor], values: list[Tensor]) -> SharedSuffix:
        """The cache with a token more of each row."""
        newest = torch.eye(len(self.seen), dtype=torch.bool, device=self.seen.device)
        return SharedSuffix(keys, values, torch.cat([self.seen, newest], 1), self.length + 1)

    @staticmethod
    def scores(q: Tensor, k: Tensor) -> Tensor:
        """Products (N, H, n) of the queries (N, H, d) with all keys."""
        return (q.transpose(0, 1) @ k.transpose(1, 2)).transpose(0, 1)

    @staticmethod
    def mixed(weights: Tensor, v: Tensor) -> Tensor:
        """All values, weighted by (N, H, n): (N, H, d)."""
        return (weights.transpose(0, 1) @ v).transpose(0, 1)


@dataclass(frozen=True)
class FixedSuffix:
    """A suffix cache with room for S tokens, of which ``length`` () are written: every step has the same shapes.

    A step writes its token where it is: only into what ``select`` has made, which nothing else reads.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: Tensor

    @staticmethod
    def empty(like: PrefixCache, rows: int, room: int) -> FixedSuffix:
        """Room for so many tokens of each row."""
        keys = [k.new_zeros(rows, k.size(1), room, k.size(3)) for k in like.keys]
        values = [v.new_zeros(rows, v.size(1), room, v.size(3)) for v in like.values]
        return FixedSuffix(keys, values, torch.zeros((), dtype=torch.long, device=keys[0].device))

    def with_room(self, room: int) -> FixedSuffix:
        """The same tokens with more room."""
        missing = (0, 0, 0, room - self.size)
        pad = torch.nn.functional.pad
        return FixedSuffix([pad(k, missing) for k in self.keys], [pad(v, missing) for v in self.values], self.length)

    @property
    def size(self) -> int:
        """Room for tokens."""
        return self.keys[0].size(2)

    def select(self, parents: Tensor) -> FixedSuffix:
        """The caches of the rows ``parents`` (N,), in that order."""
        keys = [k.index_select(0, parents) for k in self.keys]
        return FixedSuffix(keys, [v.index_select(0, parents) for v in self.values], self.length)

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """A layer's keys and values with those of the newest token (N, H, 1, d)."""
        at = self.length.view(1)
        return self.keys[layer].index_copy_(2, at, key), self.values[layer].index_copy_(2, at, value)

    def blind(self) -> Tensor | None:
        """True (S,) where no token is written, the newest one included."""
        return torch.arange(self.size, device=self.length.device) > self.length

    def grown(self, keys: list[Tensor], values: list[Tensor]) -> FixedSuffix:
        """The cache with a token more."""
        return FixedSuffix(keys, values, self.length + 1)

    scores, mixed = staticmethod(SuffixCache.scores), staticmethod(SuffixCache.mixed)


Suffix = SuffixCache | SharedSuffix | FixedSuffix


@dataclass(frozen=True)
class RowLayout:
    """The prefix that each row sees, and its index in the padded grid (B, R) that attention uses.

    ``prefix_length`` (N,) counts the prefix tokens that a row may see; ``slot`` (N,) is the row's index in the flattened grid, None
    when the grid has no padding.
    """

    prefix_length: Tensor
    batch: int
    width: int
    slot: Tensor | None

    @staticmethod
    def of(owner: Tensor, prefix_length: Tensor, batch: int) -> RowLayout:
        """Lay out rows sorted by their utterance ``owner`` (N,); the host waits for its device, if it has another."""
        return RowLayout(prefix_length, batch, *RowLayout.grid_of(owner, batch))

    @staticmethod
    def grid_of(owner: Tensor, batch: int) -> tuple[int, Tensor | None]:
        """``width`` and ``slot`` of rows sorted by ``owner`` (N,)."""
        rows = len(owner)
        if batch == 1:
            return rows, None
        counts = torch.bincount(owner, minlength=batch)
        width = int(counts.max())
        if width * batch == rows:
            return width, None
        rank = torch.arange(rows, device=owner.device) - (counts.cumsum(0) - counts)[owner]
        return width, owner * width + rank

    def to_grid(self, x: Tensor) -> Tensor:
        """Rows (N, H, d) to the grid (B, H, R, d)."""
        if self.slot is not None:
            x = x.new_zeros(self.batch * self.width, *x.shape[1:]).index_copy_(0, self.slot, x)
        return x.view(self.batch, self.width, *x.shape[1:]).transpose(1, 2)

    def to_rows(self, grid: Tensor) -> Tensor:
        """The grid (B, H, R, d) to rows (N, H, d)."""
        x = grid.transpose(1, 2).flatten(0, 1)
        return x if self.slot is None else x[self.slot]
