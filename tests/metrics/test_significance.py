"""Statistics against values worked out by hand, and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parlab.metrics.significance import Replicates, bootstrap_interval, compare_errors, resampled_sums


def test_interval_of_a_known_variance() -> None:
    """1000 utterances of 10 words with 2 errors each, half of them 4 and half 0: sd of the rate is 0.2 / sqrt(1000)."""
    errors = np.array([0, 4] * 500)
    low, high = bootstrap_interval(errors, np.full(1000, 10), seed=1)
    half = 1.96 * 0.2 / math.sqrt(1000)
    assert low == pytest.approx(0.2 - half, abs=0.001)
    assert high == pytest.approx(0.2 + half, abs=0.001)


def test_speakers_widen_the_interval() -> None:
    """Errors that belong to speakers: resampling utterances hides it."""
    errors = np.array([0] * 50 + [4] * 50)
    speakers = ["a"] * 50 + ["b"] * 50
    low, high = bootstrap_interval(errors, np.full(100, 10), seed=0)
    wide = bootstrap_interval(errors, np.full(100, 10), groups=speakers, seed=0)
    assert wide[0] < low < high < wide[1]
    assert wide == (0.0, 0.4)


def test_equal_systems_do_not_differ() -> None:
    errors = np.arange(30) % 3
    found = compare_errors(errors, errors, np.full(30, 10))
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_constant_gain_is_certain() -> None:
    errors = np.arange(30) % 3 + 1
    found = compare_errors(errors, errors - 1, np.full(30, 10))
    assert found.difference == pytest.approx(-0.1)
    assert found.high == pytest.approx(-0.1)
    assert found.p_value <= 1e-3


def test_pairs_are_drawn_together() -> None:
    """A gain of one word in 10 % of utterances is sure although the rates vary far more than that."""
    rng = np.random.default_rng(0)
    errors = rng.integers(0, 10, 400).astype(float)
    better = errors - ((rng.random(400) < 0.1) & (errors > 0))
    found = compare_errors(errors, better, np.full(400, 10))
    assert found.high < 0


def test_packed_sums_are_plain_sums() -> None:
    """Against each column summed over the same draws; the large column has an integer of its own."""
    rng = np.random.default_rng(3)
    columns = [rng.integers(0, high, 700) for high in (5, 200, 3, 2**40, 90)]
    draws = np.random.default_rng(0).integers(0, 700, size=(900, 700))
    expected = np.stack([column[draws].sum(1) for column in columns])
    assert (resampled_sums(columns, 900) == expected).all()


def test_systems_that_are_drawn_together_have_the_intervals_of_each() -> None:
    rng = np.random.default_rng(4)
    errors, totals = [rng.integers(0, 4, 60) for _ in range(3)], rng.integers(4, 9, 60)
    found = Replicates.of([*errors, errors[0] * 5], [totals, totals, totals, totals * 5], replicates=500)
    for i in range(3):
        assert found.interval(i) == bootstrap_interval(errors[i], totals, replicates=500)
    assert found.interval(3) == found.interval(0)
    assert found.paired(0, 2) == compare_errors(errors[0], errors[2], totals, replicates=500)


def test_the_first_replicates_are_those_of_a_smaller_number() -> None:
    errors, totals = np.arange(300) % 3, np.full(300, 7)
    many, few = (Replicates.of([errors], [totals], replicates=count) for count in (2000, 300))
    assert (many.first(300).drawn == few.drawn).all()
    assert many.first(300).interval(0) == few.interval(0) != many.interval(0)
