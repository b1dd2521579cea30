"""Bootstrap intervals of error rates (Bisani and Ney 2004), and the differences of systems that are drawn together."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parlab.metrics.paired import PairedDifference, paired_difference
from parlab.metrics.wer import ErrorCounts

REPLICATES = 10_000


def errors_and_lengths(counts: Sequence[ErrorCounts]) -> tuple[NDArray, NDArray]:
    """Errors and reference lengths of each utterance, each (n,)."""
    return np.array([c.errors for c in counts], dtype=np.int64), np.array([c.total for c in counts], dtype=np.int64)


def grouped(values: NDArray, groups: Sequence[str] | None) -> NDArray:
    """Sum ``values`` (n,) over groups (speakers), so that the unit of resampling is the group."""
    if groups is None:
        return values
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.rint(np.bincount(index, weights=values)).astype(np.int64)


def resampled_sums(columns: Sequence[ArrayLike], replicates: int, seed: int = 0) -> NDArray:
    """Sums of ``columns``, each (n,) of counts, over ``n`` entries drawn with replacement: (columns, replicates).

    All columns see the same draws. Reading memory in random order is what takes the time, so several columns are packed
    into one integer wherever their sums fit in 62 bits.
    """
    counts = [np.asarray(column, dtype=np.int64) for column in columns]
    n = len(counts[0])
    packs: list[tuple[NDArray, list[tuple[int, int, int]]]] = []  # packed column; column, shift and bits of each part
    used = 63
    for i, column in enumerate(counts):
        bits = int(n * column.max(initial=0)).bit_length()
        if used + bits > 62:
            packs.append((np.zeros(n, dtype=np.int64), []))
            used = 0
        np.add(packs[-1][0], column << used, out=packs[-1][0])
        packs[-1][1].append((i, used, bits))
        used += bits
    rng = np.random.default_rng(seed)
    sums = np.empty((len(counts), replicates), dtype=np.int64)
    block = max(1, 250_000 // max(n, 1))  # what fits in a processor's cache
    blocks = [(start, min(start + block, replicates)) for start in range(0, replicates, block)]
    taken = np.empty((block, n), dtype=np.int64)
    with ThreadPoolExecutor(1) as pool:  # draws the next block while this one is summed
        ahead = pool.submit(rng.integers, 0, n, (blocks[0][1], n))
        for number, (start, stop) in enumerate(blocks):
            draw = ahead.result()
            if number + 1 < len(blocks):
                first, last = blocks[number + 1]
                ahead = pool.submit(rng.integers, 0, n, (last - first, n))
            for packed, parts in packs:
                drawn = packed.take(draw, mode="wrap", out=taken[: len(draw)]).sum(1)  # "wrap" looks for no errors
                for i, shift, bits in parts:
                    sums[i, start:stop] = (drawn >> shift) & ((1 << bits) - 1)
    return sums


@dataclass(frozen=True)
class Replicates:
    """Bootstrap replicates of the pooled error rates of systems on the same utterances, all on the same draws.

    Attributes:
        rates: of the data, (systems,).
        drawn: of the replicates, (systems, replicates).
        errors, totals: of each system in each unit that is drawn, (units,) each.
    """

    rates: NDArray
    drawn: NDArray
    errors: tuple[NDArray, ...]
    totals: tuple[NDArray, ...]

    @staticmethod
    def of(
        errors: Sequence[ArrayLike],
        totals: Sequence[ArrayLike],
        groups: Sequence[str] | None = None,
        replicates: int = REPLICATES,
        seed: int = 0,
    ) -> Replicates:
        """Draw utterances; ``errors`` of each system (n,) and its references' lengths ``totals`` (n,) are counts.

        With ``groups`` (n,) whole groups (speakers) are drawn.
        """
        known: dict[bytes, int] = {}  # lengths that several systems share are drawn once
        columns = [grouped(np.asarray(column, dtype=np.int64), groups) for column in errors]
        lengths = [grouped(np.asarray(column, dtype=np.int64), groups) for column in totals]
        at = []
        for column in lengths:
            at.append(known.setdefault(column.tobytes(), len(columns)))
            columns += [column] if at[-1] == len(columns) else []
        if len(columns[0]) == 0:
            nothing = np.zeros((len(errors), replicates))
            return Replicates(np.zeros(len(errors)), nothing, tuple(columns[: len(errors)]), tuple(lengths))
        sums = resampled_sums(columns, replicates, seed)
        words = np.array([column.sum() for column in lengths])
        rates = np.array([column.sum() for column in columns[: len(errors)]]) / np.maximum(words, 1)
        drawn = sums[: len(errors)] / np.maximum(sums[at], 1)
        return Replicates(rates, drawn, tuple(columns[: len(errors)]), tuple(lengths))

    def first(self, replicates: int) -> Replicates:
        """The same with so many of the replicates: those that a smaller number would have drawn."""
        return replace(self, drawn=self.drawn[:, :replicates])

    def interval(self, system: int) -> tuple[float, float]:
        """The 95 % interval of a system's rate."""
        low, high = np.quantile(self.drawn[system], [0.025, 0.975])
        return float(low), float(high)

    def paired(self, a: int, b: int) -> PairedDifference:
        """System ``b`` against system ``a``, which have the same references."""
        return paired_difference((self.errors[a], self.errors[b]), self.totals[a], self.drawn[b] - self.drawn[a])


def bootstrap_interval(
    errors: ArrayLike,
    totals: ArrayLike,
    groups: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the pooled error rate of one system: errors and lengths (n,) of its utterances.

    With ``groups`` (n,) whole groups (speakers) are drawn.
    """
    return Replicates.of([errors], [totals], groups, replicates, seed).interval(0)


def compare_errors(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    totals: ArrayLike,
    groups: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> PairedDifference:
    """Compare two systems on the same utterances."""
    return Replicates.of([errors_a, errors_b], [totals, totals], groups, replicates).paired(0, 1)
