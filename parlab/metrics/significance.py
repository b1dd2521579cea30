"""Is a difference real: bootstrap intervals (Bisani and Ney 2004), paired bootstrap, matched pairs (Gillick and Cox 1989)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from parlab.metrics.wer import GAP, ErrorCounts, alignment

REPLICATES = 10_000


@dataclass(frozen=True)
class PairedBootstrap:
    """Rate of B minus rate of A: the difference, its 95 % interval, and the two-sided p-value of no difference."""

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class MatchedPairs:
    """MAPSSWE: segments where the systems may differ, mean difference of errors (B minus A), z and two-sided p."""

    segments: int
    mean_difference: float
    z: float
    p_value: float


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
    """

    rates: NDArray
    drawn: NDArray

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
            return Replicates(np.zeros(len(errors)), np.zeros((len(errors), replicates)))
        sums = resampled_sums(columns, replicates, seed)
        words = np.array([column.sum() for column in lengths])
        rates = np.array([column.sum() for column in columns[: len(errors)]]) / np.maximum(words, 1)
        return Replicates(rates, sums[: len(errors)] / np.maximum(sums[at], 1))

    def first(self, replicates: int) -> Replicates:
        """The same with so many of the replicates: those that a smaller number would have drawn."""
        return Replicates(self.rates, self.drawn[:, :replicates])

    def interval(self, system: int) -> tuple[float, float]:
        """The 95 % interval of a system's rate."""
        low, high = np.quantile(self.drawn[system], [0.025, 0.975])
        return float(low), float(high)

    def paired(self, a: int, b: int) -> PairedBootstrap:
        """System ``b`` against system ``a``."""
        gain = self.drawn[b] - self.drawn[a]
        low, high = np.quantile(gain, [0.025, 0.975])
        # The share of replicates on the other side of zero; ties count half to each side.
        below = (np.sum(gain < 0) + 0.5 * np.sum(gain == 0)) / len(gain)
        p = min(1.0, 2 * min(below, 1 - below))
        difference = self.rates[b] - self.rates[a]
        return PairedBootstrap(float(difference), float(low), float(high), float(max(p, 1 / len(gain))))


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


def paired_bootstrap(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    totals: ArrayLike,
    groups: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> PairedBootstrap:
    """Compare two systems on the same utterances by drawing both together."""
    return Replicates.of([errors_a, errors_b], [totals, totals], groups, replicates).paired(0, 1)


def _word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[list[int], list[int]]:
    """Words inserted before each reference word (the last entry: after all), and whether each one is wrong or missing."""
    inserted, wrong = [0] * (len(reference) + 1), [0] * len(reference)
    if reference == hypothesis:
        return inserted, wrong
    index = 0
    for r, h in alignment(reference, hypothesis):
        if r == GAP:
            inserted[index] += 1
            continue
        wrong[index] = int(r != h)
        index += 1
    return inserted, wrong


def _segment_errors(reference: str, a: str, b: str, buffer: int = 2) -> list[tuple[int, int]]:
    """Errors of A and B in each segment of an utterance: segments are separated by ``buffer`` words that both have right."""
    if reference == a == b:  # most utterances of a good model
        return []
    words = reference.split()
    inserted_a, wrong_a = _word_errors(words, a.split())
    inserted_b, wrong_b = (inserted_a, wrong_a) if a == b else _word_errors(words, b.split())
    segments: list[tuple[int, int]] = []
    count, right = [0, 0], buffer
    for i in range(len(words) + 1):
        errors = [(inserted_a[i], inserted_b[i])] + ([(wrong_a[i], wrong_b[i])] if i < len(words) else [])
        for of_a, of_b in errors:
            if of_a or of_b:
                count = [count[0] + of_a, count[1] + of_b]
                right = 0
        if errors[-1] == (0, 0) and len(errors) == 2:
            right += 1
            if right == buffer and any(count):
                segments.append((count[0], count[1]))
                count = [0, 0]
    if any(count):
        segments.append((count[0], count[1]))
    return segments


def mapsswe(references: Sequence[str], hypotheses_a: Sequence[str], hypotheses_b: Sequence[str]) -> MatchedPairs:
    """Matched-pairs sentence-segment word error test, as NIST's sc_stats does it."""
    differences = [
        y - x
        for r, a, b in zip(references, hypotheses_a, hypotheses_b, strict=True)
        for x, y in _segment_errors(r, a, b)
    ]
    n = len(differences)
    if n < 2:
        return MatchedPairs(n, float(sum(differences)), 0.0, 1.0)
    mean = sum(differences) / n
    variance = sum((d - mean) ** 2 for d in differences) / (n - 1)
    if mean == 0:
        return MatchedPairs(n, 0.0, 0.0, 1.0)
    if variance == 0:
        # All segments differ alike, and the normal approximation would be certain after two; the sign test is not.
        p = max(2 * 0.5**n, 1e-300)
        return MatchedPairs(n, mean, math.copysign(NormalDist().inv_cdf(p / 2), mean), p)
    z = mean / math.sqrt(variance / n)
    return MatchedPairs(n, mean, z, math.erfc(abs(z) / math.sqrt(2)))
