"""Statistics against values worked out by hand, and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parlab.metrics.significance import (
    Replicates,
    _segment_errors,
    bootstrap_interval,
    mapsswe,
    paired_bootstrap,
    resampled_sums,
)


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
    found = paired_bootstrap(errors, errors, np.full(30, 10))
    assert (found.difference, found.low, found.high, found.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_a_constant_gain_is_certain() -> None:
    errors = np.arange(30) % 3 + 1
    found = paired_bootstrap(errors, errors - 1, np.full(30, 10))
    assert found.difference == pytest.approx(-0.1)
    assert found.high == pytest.approx(-0.1)
    assert found.p_value <= 1e-3


def test_pairs_are_drawn_together() -> None:
    """A gain of one word in 10 % of utterances is sure although the rates vary far more than that."""
    rng = np.random.default_rng(0)
    errors = rng.integers(0, 10, 400).astype(float)
    better = errors - ((rng.random(400) < 0.1) & (errors > 0))
    found = paired_bootstrap(errors, better, np.full(400, 10))
    assert found.high < 0


def test_segments_end_where_both_are_right_twice() -> None:
    # a b c d e f g h: A errs at b; B errs at c and at g. Between them d, e, f are right for both.
    assert _segment_errors("a b c d e f g h", "a x c d e f g h", "a b y d e f z h") == [(1, 1), (0, 1)]
    # One right word between two errors does not separate them.
    assert _segment_errors("a b c d", "x b y d", "a b c d") == [(2, 0)]
    # One right word (b) between a deletion and an insertion does not separate them either.
    assert _segment_errors("a b c d e", "a b q c d e", "b c d e") == [(1, 1)]
    # An insertion leaves the words around it right: c and d are the two that end the segment.
    assert _segment_errors("a b c d e", "a b q c d x", "a b c d e") == [(1, 0), (1, 0)]
    # Nothing said at all, and words where nothing was said.
    assert _segment_errors("a b", "", "a b") == [(2, 0)]
    assert _segment_errors("", "a", "") == [(1, 0)]


def test_a_star_is_a_word_that_may_be_wrong() -> None:
    assert _segment_errors("a b * d", "a b * d", "a b c d") == [(0, 1)]


def test_mapsswe_by_hand() -> None:
    """Differences 1, 1, 0, -1 over four one-word sentences apart: mean 0.25, s^2 = 11/12, z = 0.25 / sqrt(11/48)."""
    references = ["a", "b", "c", "d"]
    a = ["a", "b", "x", "x"]
    b = ["x", "x", "y", "d"]
    found = mapsswe(references, a, b)
    assert found.segments == 4
    assert found.mean_difference == pytest.approx(0.25)
    assert found.z == pytest.approx(0.25 / math.sqrt(11 / 48))
    assert found.p_value == pytest.approx(math.erfc(found.z / math.sqrt(2)))


def test_mapsswe_of_equal_systems() -> None:
    found = mapsswe(["a b", "c d"], ["a x", "c d"], ["a x", "c d"])
    assert found.p_value == 1.0


def test_two_segments_are_no_proof() -> None:
    """Without any variance the normal approximation would say p = 0; two heads in two throws have p = 0.5."""
    found = mapsswe(["a", "b"], ["a", "b"], ["x", "x"])
    assert (found.segments, found.mean_difference) == (2, 1.0)
    assert found.p_value == pytest.approx(0.5)
    assert 0 < found.z < 1
    many = mapsswe(["a"] * 5000, ["a"] * 5000, ["x"] * 5000)
    assert math.isfinite(many.z)
    assert many.p_value < 1e-200


def test_better_and_worse_mirror_each_other() -> None:
    a, b = ["x", "b", "x", "d"], ["a", "b", "c", "x"]
    forth, back = mapsswe(list("abcd"), a, b), mapsswe(list("abcd"), b, a)
    assert forth.z == pytest.approx(-back.z)
    assert forth.p_value == pytest.approx(back.p_value)


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
    assert found.paired(0, 2) == paired_bootstrap(errors[0], errors[2], totals, replicates=500)


def test_the_first_replicates_are_those_of_a_smaller_number() -> None:
    errors, totals = np.arange(300) % 3, np.full(300, 7)
    many, few = (Replicates.of([errors], [totals], replicates=count) for count in (2000, 300))
    assert (many.first(300).drawn == few.drawn).all()
    assert many.first(300).interval(0) == few.interval(0) != many.interval(0)
