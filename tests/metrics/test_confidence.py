"""The quality of a confidence against definitions that compare every pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlab.metrics.confidence import ConfidenceQuality, errors_caught

TOKENS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.35, 0.5, 0.8, 0.95, 1.0]), st.booleans()), min_size=2, max_size=30
)


@given(tokens=TOKENS.filter(lambda x: len({w for _, w in x}) == 2))
def test_equals_the_definitions(tokens: list[tuple[float, bool]]) -> None:
    confidence, wrong = (np.array(column) for column in zip(*tokens, strict=True))
    found = ConfidenceQuality.of(confidence, wrong)
    pairs = [(a, b) for a, x in tokens if not x for b, y in tokens if y]
    assert found.auc_roc == pytest.approx(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    errors, area, before = sum(w for _, w in tokens), 0.0, 0
    for value in sorted(set(confidence.tolist())):
        listed = [w for c, w in tokens if c <= value]
        area += (sum(listed) - before) / errors * sum(listed) / len(listed)
        before = sum(listed)
    assert found.auc_pr == pytest.approx(area)
    mean = 1 - errors / len(tokens)
    base = -sum(math.log(1 - mean if w else mean) for _, w in tokens)
    own = -sum(math.log(1 - p if w else p) for c, w in tokens for p in [min(max(c, 1e-6), 1 - 1e-6)])
    assert found.nce == pytest.approx((base - own) / base)
    distance = 0.0
    for b in range(10):
        inside = [(c, w) for c, w in tokens if min(int(c * 10), 9) == b]
        distance += abs(sum(c for c, _ in inside) - sum(not w for _, w in inside))
    assert found.ece == pytest.approx(distance / len(tokens))


def test_the_best_and_the_worst() -> None:
    right = ConfidenceQuality.of(np.array([0.0, 1.0, 1.0]), np.array([True, False, False]))
    assert (right.auc_roc, right.auc_pr, right.ece) == (1.0, 1.0, 0.0)
    assert right.nce == pytest.approx(1.0, abs=1e-4)
    false = ConfidenceQuality.of(np.array([1.0, 0.0, 0.0]), np.array([True, False, False]))
    assert false.auc_roc == 0.0 and false.nce < -5
    assert math.isnan(ConfidenceQuality.of(np.array([0.5]), np.array([False])).nce)


def test_errors_caught_by_a_share_of_masks() -> None:
    confidence, wrong = np.array([0.9, 0.1, 0.5, 0.5]), np.array([False, True, True, False])
    assert [errors_caught(confidence, wrong, s) for s in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 0.75, 1.0, 1.0]
    assert math.isnan(errors_caught(confidence, wrong & False, 0.5))
