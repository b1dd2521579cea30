"""Promises are kept: simulations of true hypotheses, and what is needed for a promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from parlab.metrics.promise import first_to_last, least_units, needed_units, p_value, promise, stakes

ALPHA = 0.1


def lost(rng: np.random.Generator, mean: float, units: int) -> np.ndarray:
    """Losses of units as WER has them: mostly none, some words worse, some better; their mean is exactly ``mean``."""
    sizes = np.array([0.0, 0.25, 1.0, -0.2])
    chances = np.array([0.0, 0.1, 0.01, 0.0])
    chances[3] = (sizes[1:3] @ chances[1:3] - mean) / 0.2
    chances[0] = 1 - chances.sum()
    assert chances.min() >= 0 and chances @ sizes == pytest.approx(mean)
    return rng.choice(sizes, units, p=chances)


@pytest.mark.parametrize(("units", "delta"), [(40, 0.02), (300, 0.02), (300, 0.005), (1500, 0.01)])
def test_a_false_promise_is_rare(units: int, delta: float) -> None:
    """At the edge, where the mean is delta, at most alpha of all development sets promise it (three standard errors apart)."""
    rng = np.random.default_rng(units)
    trials = 1500
    false = sum(promise(lost(rng, delta, units), delta, ALPHA).kept for _ in range(trials))
    assert false / trials <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)


def test_a_false_promise_among_many_settings_is_rare() -> None:
    """Settings from safe to bold, tested in this order: the boldest one that is promised is what ``tune`` takes."""
    rng = np.random.default_rng(1)
    means, delta, trials = [-0.01, 0.005, 0.02, 0.021, 0.022], 0.02, 800
    false = made = 0
    for _ in range(trials):
        found = first_to_last([lost(rng, mean, 800) for mean in means], delta, ALPHA)
        promised = [mean for mean, p in zip(means, found, strict=False) if p.kept]
        false += any(mean >= delta for mean in promised)
        made += bool(promised)
    assert false / trials <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)
    assert made / trials > 0.9  # a setting that gains is nearly always promised


def test_speakers_that_differ_count_as_one_unit_each() -> None:
    """Utterances of a speaker share a loss: tested by speaker the promise holds, tested by utterance it would not."""
    rng = np.random.default_rng(2)
    trials, speakers, each, delta = 600, 30, 40, 0.02
    by_speaker = by_utterance = 0
    for _ in range(trials):
        means = rng.choice([-0.1, 0.14], speakers)  # 0.02 in the mean
        by_speaker += promise(means, delta, ALPHA).kept
        by_utterance += promise(np.repeat(means, each), delta, ALPHA).kept
    assert by_speaker / trials <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / trials)
    assert by_utterance / trials > 0.3


def test_the_bet_of_the_definition() -> None:
    losses, delta = [0.5, -0.25, 0.0, 1.0], 0.1
    capital = 0.0
    for stake, share in zip(*stakes(delta), strict=True):
        own = share
        for loss in losses:
            own *= 1 + stake * (delta - loss)
        capital += own
    assert p_value(np.array(losses), delta) == pytest.approx(min(1.0, 1 / capital), rel=1e-6)
    assert sum(stakes(delta)[1]) == pytest.approx(1.0)
    assert p_value(np.array([0.3, -0.1]), delta) == p_value(np.array([-0.1, 0.3]), delta)


@pytest.mark.parametrize(("delta", "alpha"), [(0.002, 0.1), (0.02, 0.05), (0.1, 0.1)])
def test_units_that_nothing_can_be_promised_without(delta: float, alpha: float) -> None:
    """Nothing lost at all: one unit fewer than is needed is refused by the best bettor, a few more suffice."""
    least = least_units(delta, alpha)
    assert least is not None
    assert promise(np.zeros(least), delta, alpha).kept
    assert not promise(np.zeros(least // 2), delta, alpha).kept
    assert needed_units(np.full(10, delta + 0.01), delta, alpha) is None
    assert least_units(0.0, alpha) is None


def test_as_many_units_as_are_said_to_be_needed_suffice() -> None:
    rng = np.random.default_rng(3)
    losses = lost(rng, 0.0, 200)
    needed = needed_units(losses, 0.03, ALPHA)
    assert needed is not None
    again = np.resize(losses, -(-needed // 200) * 200)
    assert promise(again, 0.03, ALPHA).kept
