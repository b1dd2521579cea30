"""The sign-flip test and its interval: against all permutations, and by simulation under the null and away from it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from parlab.metrics.paired import PairedDifference, paired_difference, sign_flip_test, subset_interval
from parlab.metrics.significance import Replicates

TRIALS = 1000
MOST = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)  # rejections of a test whose true error is 5 %
DRAWS = np.zeros(2000)


@pytest.mark.parametrize("seed", range(20))
def test_the_p_value_is_that_of_all_permutations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    d = rng.integers(-4, 5, rng.integers(1, 11))
    sums = [
        abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=len(d))
    ]
    assert sign_flip_test(d) == pytest.approx(np.mean([x >= abs(d.sum()) for x in sums]))


def test_many_units_agree_with_the_normal_approximation() -> None:
    d = np.random.default_rng(0).integers(-3, 5, 900)
    exact = sign_flip_test(d)
    assert exact == pytest.approx(math.erfc(abs(d.sum()) / math.sqrt(2 * (d**2).sum())), rel=0.1)
    assert sign_flip_test(np.tile(d, 20)) < 1e-20


@pytest.mark.parametrize("seed", range(10))
def test_the_interval_holds_what_the_test_does_not_reject(seed: int) -> None:
    """The bounds of all subsets of ten units, against the permutation test of shifted differences."""
    rng = np.random.default_rng(seed)
    d, n = rng.integers(-5, 8, 10), rng.integers(3, 30, 10)
    low, high = subset_interval(d, n, 0)
    signs = np.array(list(itertools.product((1, -1), repeat=10)))

    def rejected(rate: float) -> bool:
        rest = d - rate * n
        sums = signs @ rest
        return min(np.mean(sums >= rest.sum() - 1e-9), np.mean(sums <= rest.sum() + 1e-9)) <= 0.025

    for bound, outside in ((low, -1), (high, 1)):
        assert rejected(bound + outside * 1e-6)
        assert not rejected(bound - outside * 1e-6)


def systems_that_err_alike(rng: np.random.Generator, units: int, favour: float) -> tuple[NDArray, NDArray, NDArray]:
    """Errors of two systems and words in each unit, some of which are hard; a unit may favour a system, by chance."""
    words = rng.integers(5, 40, units)
    hard = rng.gamma(0.7, 0.15, units)
    own = np.exp(rng.normal(0, favour, units))
    return rng.poisson(words * hard * own), rng.poisson(words * hard / own), words


def rejections(units: int, favour: float) -> tuple[float, float]:
    """The share of comparisons of equal systems in which the test, and the interval, tell them apart."""
    rng = np.random.default_rng(units)
    by_test = by_interval = 0
    for _ in range(TRIALS):
        a, b, words = systems_that_err_alike(rng, units, favour)
        found = paired_difference((a, b), words, DRAWS)
        by_test += found.p_value < 0.05
        by_interval += found.low > 0 or found.high < 0
    return by_test / TRIALS, by_interval / TRIALS


@pytest.mark.parametrize("utterances", [8, 20, 100])
def test_error_under_the_null_over_utterances(utterances: int) -> None:
    by_test, by_interval = rejections(utterances, 0.0)
    assert by_test <= MOST
    assert by_interval <= MOST
    if utterances == 100:
        assert min(by_test, by_interval) >= 0.02  # nor is it far below


@pytest.mark.parametrize("speakers", [4, 12])
def test_error_under_the_null_over_speakers(speakers: int) -> None:
    """Speakers who favour a system, as many the one as the other; the bootstrap's percentiles would not hold."""
    by_test, by_interval = rejections(speakers, 0.5)
    assert by_test <= MOST
    assert by_interval <= MOST
    rng = np.random.default_rng(speakers)
    bootstrap = 0
    for _ in range(200):
        a, b, words = systems_that_err_alike(rng, speakers, 0.5)
        drawn = Replicates.of([a, b], [words, words], replicates=300).drawn
        low, high = np.quantile(drawn[1] - drawn[0], [0.025, 0.975])
        bootstrap += low > 0 or high < 0
    assert bootstrap / 200 > MOST


@pytest.mark.parametrize("units", [8, 20, 100])
def test_the_interval_holds_the_true_difference(units: int) -> None:
    rng = np.random.default_rng(units)
    held = 0
    for _ in range(TRIALS):
        words = rng.integers(5, 40, units)
        low, high = subset_interval(0.1 * words + rng.normal(0, 1, units) * words, words, 2000)
        held += low <= 0.1 <= high
    assert held / TRIALS >= 1 - MOST


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        a, _, words = systems_that_err_alike(rng, 100, 0.0)
        b = rng.binomial(a, 0.7)  # three of ten errors mended
        found += paired_difference((a, b), words, DRAWS).high < 0
    assert found >= 95


def test_fewer_than_six_units_have_no_interval() -> None:
    words = np.full(6, 10)
    five = paired_difference((words, words - 9), words, DRAWS)
    assert five.bounded and five.p_value == 2 / 64
    less = paired_difference((words[:5], words[:5] - 9), words[:5], DRAWS)
    assert (less.low, less.high, less.p_value, less.bounded) == (-math.inf, math.inf, 2 / 32, False)
    assert less.units_to_decide(0.005) is None
    same = paired_difference((words[:2], words[:2]), words[:2], DRAWS)
    assert (same.low, same.high, same.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("difference", "needed"),
    [(0.0, 400), (-0.005, 100), (0.004, 10_000), (0.015, 100), (0.005, None)],
)
def test_units_that_would_decide(difference: float, needed: int | None) -> None:
    """The interval of +-1 % of 100 units shrinks with the root of their number, until it leaves the margin of 0.5 %."""
    found = PairedDifference(difference, difference - 0.01, difference + 0.01, 0.5, 100)
    assert found.units_to_decide(0.005) == needed
