"""How good a confidence is: does it tell right tokens from wrong ones, and may it be read as a probability?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SURE = 1e-6  # logarithms of confidences go no further towards 0 and 1


@dataclass(frozen=True)
class ConfidenceQuality:
    """Of n tokens of which some are wrong; NaN where all tokens are right, or all are wrong.

    Attributes:
        nce: normalised cross entropy (Siu and Gish 1999): 1 is perfect, 0 as good as the mean, negative worse.
        auc_roc: how often a right token is surer than a wrong one; ties count half.
        auc_pr: average precision of finding the wrong tokens by low confidence (Davis and Goadrich 2006).
        ece: expected calibration error, in ten bins: the mean distance of confidence and share of right tokens.
    """

    nce: float
    auc_roc: float
    auc_pr: float
    ece: float

    @staticmethod
    def of(confidence: NDArray, wrong: NDArray) -> ConfidenceQuality:
        """Of tokens with a confidence (n,) from 0 to 1, which are ``wrong`` (n,) or not."""
        confidence, wrong = np.asarray(confidence, dtype=float), np.asarray(wrong, dtype=bool)
        ece = _calibration_error(confidence, ~wrong)
        errors = int(wrong.sum())
        if errors in (0, len(wrong)):
            return ConfidenceQuality(float("nan"), float("nan"), float("nan"), ece)
        return ConfidenceQuality(
            _cross_entropy(confidence, ~wrong), _roc(confidence, wrong), _precision(confidence, wrong), ece
        )

    def to_json(self) -> dict[str, float]:
        """The numbers that there are."""
        return {name: value for name, value in vars(self).items() if not np.isnan(value)}


def errors_caught(confidence: NDArray, wrong: NDArray, share: float) -> float:
    """The share of the wrong tokens among the least sure ``share`` of all; of equally sure tokens an even part is taken."""
    values, index = np.unique(np.asarray(confidence, dtype=float), return_inverse=True)
    tokens = np.bincount(index, minlength=len(values)).astype(float)
    errors = np.bincount(index, np.asarray(wrong, dtype=float), minlength=len(values))
    if errors.sum() == 0:
        return float("nan")
    masked = np.clip(share * tokens.sum() - (np.cumsum(tokens) - tokens), 0.0, tokens)
    return float((errors * masked / tokens).sum() / errors.sum())


def _cross_entropy(confidence: NDArray, right: NDArray) -> float:
    clipped = np.clip(confidence, _SURE, 1 - _SURE)
    mean = right.mean()
    own = -np.where(right, np.log(clipped), np.log1p(-clipped)).sum()
    known = -len(right) * (mean * np.log(mean) + (1 - mean) * np.log1p(-mean))
    return float((known - own) / known)


def _roc(confidence: NDArray, wrong: NDArray) -> float:
    """By the ranks of the right tokens (Mann and Whitney); tokens of one confidence share their mean rank."""
    _, index, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[index]
    right = float((~wrong).sum())
    return float((rank[~wrong].sum() - right * (right + 1) / 2) / (right * float(wrong.sum())))


def _precision(confidence: NDArray, wrong: NDArray) -> float:
    """Precision after each group of equally sure tokens, weighted by the wrong tokens that the group adds."""
    values, index = np.unique(confidence, return_inverse=True)
    tokens = np.bincount(index, minlength=len(values))
    errors = np.bincount(index, wrong.astype(float), minlength=len(values))
    return float((errors * np.cumsum(errors) / np.cumsum(tokens)).sum() / errors.sum())


def _calibration_error(confidence: NDArray, right: NDArray, bins: int = 10) -> float:
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    sure, correct = (np.bincount(index, weights, minlength=bins) for weights in (confidence, right.astype(float)))
    return float(np.abs(sure - correct).sum() / max(len(confidence), 1))
