"""Is the difference of two systems on the same units (utterances, speakers) real, in small sets too.

Were the systems alike, each unit's difference could as well have the other sign. That gives a test without any approximation,
the sign-flip permutation test, and an interval: the true difference is as likely to lie between any two neighbours of the
rates of all subsets of the units (Hartigan 1969, "Using subsample values as typical values"). Both hold from the smallest set on,
where bootstrap percentiles and normal approximations reject too often, and agree with them in large sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
SMALL = 256  # units up to which intervals come from subsets; beyond, bootstrap percentiles are as good
_ALL_SUBSETS = 13  # units of which all 2^n subsets are taken
_EXACT_UNITS, _EXACT_TOTAL = 1000, 50_000  # units that differ, and their differences: beyond, the normal approximation


@dataclass(frozen=True)
class PairedDifference:
    """Rate of B minus rate of A on the same units.

    Attributes:
        difference: of the pooled rates.
        low, high: its 95 % interval; infinite where the units are too few for one (fewer than 6).
        p_value: two-sided, of no difference.
        units: utterances or speakers.
    """

    difference: float
    low: float
    high: float
    p_value: float
    units: int

    @property
    def bounded(self) -> bool:
        """Whether there are enough units for an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def units_to_decide(self, margin: float) -> int | None:
        """Units of the same kind whose interval would not hold ``margin``, were the difference the same; to two digits.

        An interval shrinks with the root of the number of units. None where nothing can be said, or more than ten million
        would be needed.
        """
        half = self.high - self.difference if self.difference < margin else self.difference - self.low
        distance = abs(margin - self.difference)
        if not self.bounded or distance == 0:
            return None
        needed = self.units * (half / distance) ** 2
        if needed > 1e7:
            return None
        unit = 10 ** max(math.floor(math.log10(max(needed, 1))) - 1, 0)
        return math.ceil(needed / unit - 1e-6) * unit


def sign_flip_test(differences: ArrayLike) -> float:
    """Two-sided p-value that the sum of integer ``differences`` (n,) is as far from 0 when signs are random.

    Exact, by the distribution of the sum, up to 1000 units that differ; beyond, by the normal approximation.
    """
    values = np.abs(np.asarray(differences, dtype=np.int64))
    observed, values = abs(int(np.sum(differences))), values[values > 0]
    total = int(values.sum())
    if observed == 0:
        return 1.0
    if len(values) > _EXACT_UNITS or total > _EXACT_TOTAL:
        return math.erfc(observed / math.sqrt(2.0 * float((values.astype(float) ** 2).sum())))
    # The probability that the units with a plus add up to t, for t from 0 to the sum of those seen; the sum is then 2 t - total.
    chance = np.ones(1)
    for value in values.tolist():
        grown = np.zeros(len(chance) + value)
        grown[: len(chance)] += 0.5 * chance
        grown[value:] += 0.5 * chance
        chance = grown
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(chance[np.abs(sums) >= observed].sum()))


@lru_cache(maxsize=4)
def _subsets(units: int, draws: int, seed: int) -> NDArray:
    """Subsets of ``units`` as rows of 0 and 1: all that hold any, or ``draws`` random ones."""
    if units <= _ALL_SUBSETS:
        return (np.arange(1, 2**units)[:, None] >> np.arange(units) & 1).astype(np.float64)
    return (np.random.default_rng(seed).random((draws, units)) < 0.5).astype(np.float64)


def subset_interval(errors: ArrayLike, totals: ArrayLike, draws: int, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of sum(errors) / sum(totals) by the rates of subsets of the units, both (n,).

    Infinite for fewer than 6 units: then no subsets are rare enough.

    Args:
        draws: random subsets where there are too many to take all.
    """
    subsets = _subsets(len(np.asarray(errors)), draws, seed)
    rates = np.sort((subsets @ np.asarray(errors)) / np.maximum(subsets @ np.asarray(totals), 1))
    rank = int((1 - CONFIDENCE) / 2 * (len(rates) + 1) + 1e-9)
    return (float(rates[rank - 1]), float(rates[-rank])) if rank else (-math.inf, math.inf)


def paired_difference(
    errors: Sequence[ArrayLike], totals: ArrayLike, drawn: NDArray, seed: int = 0
) -> PairedDifference:
    """System B against system A.

    Args:
        errors: of A and of B in each unit, each (n,).
        totals: (n,) the references' lengths.
        drawn: (replicates,) bootstrap replicates of the difference, which give the interval of many units.
    """
    first, second = (np.asarray(x, dtype=np.int64) for x in errors)
    change, count = second - first, len(first)
    difference = float(change.sum() / max(int(np.sum(totals)), 1))
    if not change.any():
        return PairedDifference(difference, 0.0, 0.0, 1.0, count)
    if count <= SMALL:
        low, high = subset_interval(change, totals, len(drawn), seed)
    else:
        low, high = (float(x) for x in np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return PairedDifference(difference, low, high, sign_flip_test(change), count)
