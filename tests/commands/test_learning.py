"""The learned combination of measures, on made-up tokens."""

from __future__ import annotations

import numpy as np
import pytest

from parlab.commands.tune.learning import cross_fitted, fit, log_odds, named, probability
from parlab.decode.confidence.measure import find_measure
from parlab.decode.confidence.measures.learned import Learned
from parlab.metrics.confidence import ConfidenceQuality


def tokens(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (n, 2) of tokens, their true chances to be right (n,), and whether they are (n,)."""
    generator = np.random.default_rng(seed)
    features = generator.normal(1.0, 2.0, (count, 2))
    chance = probability(features, np.array([0.8, -0.3, 0.5]))
    return features, chance, (generator.random(count) < chance).astype(float)


def test_the_true_weights_are_found() -> None:
    features, _, right = tokens(1, 40_000)
    assert fit(features, right) == pytest.approx([0.8, -0.3, 0.5], abs=0.05)


def test_nothing_is_known_of_the_own_fold() -> None:
    """Features without meaning look good on the tokens that they were fitted on, and are worth nothing on others."""
    generator = np.random.default_rng(2)
    areas = []
    for _ in range(20):
        features, right = generator.normal(size=(80, 8)), (generator.random(80) < 0.5).astype(float)
        own = ConfidenceQuality.of(probability(features, fit(features, right)), right == 0)
        apart = ConfidenceQuality.of(cross_fitted(features, right), right == 0)
        areas.append((own.auc_roc, apart.auc_roc))
    own_mean, apart_mean = np.mean(areas, axis=0)
    assert own_mean > 0.65
    assert apart_mean == pytest.approx(0.5, abs=0.06)


def test_better_than_each_measure_alone() -> None:
    features, chance, right = tokens(3, 4000)
    learned = ConfidenceQuality.of(cross_fitted(features, right), right == 0)
    assert learned.nce > max(ConfidenceQuality.of(1 / (1 + np.exp(-f)), right == 0).nce for f in features.T)
    assert learned.nce == pytest.approx(ConfidenceQuality.of(chance, right == 0).nce, abs=0.01)


def test_the_name_holds_the_weights() -> None:
    found = find_measure(named(("posterior", "rank"), np.array([1.25, -0.5, 0.125])))
    assert isinstance(found, Learned)
    assert (found.of, found.numbers, found.bias) == ("posterior+rank", (1.25, -0.5), 0.125)


def test_sure_and_impossible_tokens_are_numbers() -> None:
    assert np.isfinite(log_odds([np.array([0.0, 1.0]), np.array([1.0, 0.5])])).all()
    separable = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    assert np.isfinite(fit(separable, np.array([0.0, 0.0, 1.0, 1.0]))).all()
