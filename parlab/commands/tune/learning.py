"""A learned combination of measures: logistic regression of whether a draft token is right, on the measures' log-odds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from parlab.decode.confidence.measures.learned import CLIP

FEATURES = ("posterior", "margin", "gibbs", "decoder", "rank")  # with their default options
LEAST = 20  # wrong tokens, and right ones, without which nothing is learnt
_RIDGE = 1.0  # penalty on the squared weights, which keeps them small where measures say the same


def log_odds(confidences: Sequence[NDArray]) -> NDArray:
    """Log-odds (n, F) of F measures' confidences, each (n,)."""
    found: NDArray = torch.logit(torch.from_numpy(np.stack(confidences, -1)), eps=CLIP).numpy()
    return found


def fit(features: NDArray, right: NDArray, steps: int = 50) -> NDArray:
    """Weights and, last, the bias (F + 1,) that maximise the penalised likelihood of ``right`` (n,), by Newton's method."""
    x = np.concatenate([features, np.ones((len(features), 1))], 1)
    penalty = np.diag([_RIDGE] * features.shape[1] + [0.0])
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        chance = probability(features, weights)
        slope = x.T @ (right - chance) - penalty @ weights
        curve = (x * (chance * (1 - chance))[:, None]).T @ x + penalty
        step = np.linalg.lstsq(curve, slope, rcond=None)[0]
        weights = weights + step
        if np.abs(step).max() < 1e-6:
            break
    return weights


def probability(features: NDArray, weights: NDArray) -> NDArray:
    """The probability (n,) that each token is right."""
    odds = np.clip(features @ weights[:-1] + weights[-1], -50.0, 50.0)
    return 1.0 / (1.0 + np.exp(-odds))


def cross_fitted(features: NDArray, right: NDArray, folds: int = 2) -> NDArray:
    """The probability (n,) of each token by weights that were fitted without its fold; folds are contiguous parts."""
    fold = np.arange(len(right)) * folds // max(len(right), 1)
    out = np.empty(len(right))
    for i in range(folds):
        out[fold == i] = probability(features[fold == i], fit(features[fold != i], right[fold != i]))
    return out


def named(features: Sequence[str], weights: NDArray) -> str:
    """The measure with these weights, as ``--decoder.measure`` takes it."""
    numbers = "+".join(f"{weight:.4f}" for weight in weights[:-1])
    return f"learned:of={'+'.join(features)},weights={numbers},bias={weights[-1]:.4f}"
