"""Is a difference real: bootstrap intervals (Bisani and Ney 2004), paired bootstrap, matched pairs (Gillick and Cox 1989)."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    return np.array([c.errors for c in counts], dtype=float), np.array([c.total for c in counts], dtype=float)


def grouped(values: NDArray, groups: Sequence[str] | None) -> NDArray:
    """Sum ``values`` (n,) over groups (speakers), so that the unit of resampling is the group."""
    if groups is None:
        return values
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(index, weights=values)


def _rates(errors: list[NDArray], totals: NDArray, replicates: int, seed: int = 0) -> list[NDArray]:
    """Error rates of bootstrap replicates, each array on the same draws."""
    rng = np.random.default_rng(seed)
    n = len(totals)
    out: list[list[NDArray]] = [[] for _ in errors]
    block = max(1, 2_000_000 // max(n, 1))
    for start in range(0, replicates, block):
        draw = rng.integers(0, n, size=(min(block, replicates - start), n))
        words = np.maximum(totals[draw].sum(1), 1)
        for kept, each in zip(out, errors, strict=True):
            kept.append(each[draw].sum(1) / words)
    return [np.concatenate(kept) for kept in out]


def bootstrap_interval(
    errors: ArrayLike,
    totals: ArrayLike,
    groups: Sequence[str] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the pooled error rate; ``errors`` and ``totals`` (n,) are counts per utterance.

    With ``groups`` (n,) whole groups (speakers) are drawn.
    """
    each = grouped(np.asarray(errors, dtype=float), groups)
    words = grouped(np.asarray(totals, dtype=float), groups)
    if len(each) == 0:
        return 0.0, 0.0
    (rates,) = _rates([each], words, replicates, seed)
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def paired_bootstrap(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    totals: ArrayLike,
    groups: Sequence[str] | None = None,
    replicates: int = REPLICATES,
) -> PairedBootstrap:
    """Compare two systems on the same utterances by drawing both together."""
    a = grouped(np.asarray(errors_a, dtype=float), groups)
    b = grouped(np.asarray(errors_b, dtype=float), groups)
    words = grouped(np.asarray(totals, dtype=float), groups)
    if len(a) == 0:
        return PairedBootstrap(0.0, 0.0, 0.0, 1.0)
    rates_a, rates_b = _rates([a, b], words, replicates)
    gain = rates_b - rates_a
    low, high = np.quantile(gain, [0.025, 0.975])
    # The share of replicates on the other side of zero; ties count half to each side.
    below = (np.sum(gain < 0) + 0.5 * np.sum(gain == 0)) / replicates
    p = min(1.0, 2 * min(below, 1 - below))
    difference = (b.sum() - a.sum()) / max(words.sum(), 1)
    return PairedBootstrap(float(difference), float(low), float(high), float(max(p, 1 / replicates)))


def _word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[list[int], list[int]]:
    """Words inserted before each reference word (the last entry: after all), and whether each one is wrong or missing."""
    inserted, wrong = [0] * (len(reference) + 1), [0] * len(reference)
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
    words = reference.split()
    (inserted_a, wrong_a), (inserted_b, wrong_b) = (_word_errors(words, text.split()) for text in (a, b))
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
