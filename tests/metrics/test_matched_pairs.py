"""MAPSSWE by hand, and its error under the null."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parlab.metrics.matched_pairs import _segment_errors, mapsswe


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
    assert found.p_normal == pytest.approx(math.erfc(found.z / math.sqrt(2)))
    assert found.p_value == 1.0  # of the 8 signs of 1, 1 and -1 all sums are at least 1 away from 0


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


def test_four_segments_prove_nothing() -> None:
    """NIST's approximation is as good as certain after four segments that differ nearly alike; four throws have p = 1/8."""
    found = mapsswe(["a b c d e f"] * 4, ["a b c d e f"] * 4, ["x y z x y z"] * 3 + ["x y z x y f"])
    assert found.segments == 4
    assert found.p_normal < 1e-6
    assert found.p_value == 0.125


@pytest.mark.parametrize("utterances", [8, 20, 100])
def test_error_under_the_null(utterances: int) -> None:
    """Two systems that err alike are told apart in 5 of 100 comparisons at most, however few the utterances."""
    rng = np.random.default_rng(utterances)
    reference = "a b c d e f g h i j".split()
    trials, rejected, approximate = 250, 0, 0
    for _ in range(trials):
        wrong = rng.random((2, utterances, 10)) < 0.15 * rng.gamma(0.5, 2.0, (1, utterances, 1))  # hard and easy ones
        texts = [
            [" ".join("x" if bad else w for w, bad in zip(reference, row, strict=True)) for row in system]
            for system in wrong
        ]
        found = mapsswe([" ".join(reference)] * utterances, *texts)
        rejected += found.p_value < 0.05
        approximate += found.p_normal < 0.05
    assert rejected / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert rejected <= approximate
