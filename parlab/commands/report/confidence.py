"""Can the confidence be trusted: calibration, and which errors the masks catch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from parlab.commands.report.drafts import Drafts, measure_of
from parlab.commands.report.tables import number_option
from parlab.metrics.confidence import ConfidenceQuality
from parlab.predictions.confidences import confidences, sampled, wrong_tokens
from parlab.predictions.prediction import Prediction

THRESHOLDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


@dataclass(frozen=True)
class ConfidenceBin:
    """Tokens of similar confidence: its mean, the share of tokens in right words, and their number.

    ``ece`` is the expected calibration error of the whole prediction: the mean distance of the two, weighted by tokens; ``nce``,
    ``auc_roc`` and ``auc_pr`` (``parlab/metrics/confidence.py``) are None where all tokens are right, or all wrong.
    """

    name: str
    decoder: str
    confidence: float
    accuracy: float
    tokens: int
    ece: float
    nce: float | None = None
    auc_roc: float | None = None
    auc_pr: float | None = None


@dataclass(frozen=True)
class DraftTokens:
    """Draft tokens: confidence (NaN: not known), whether each was masked, and whether its word is wrong; each (n,)."""

    confidence: NDArray
    masked: NDArray
    wrong: NDArray


@dataclass(frozen=True)
class CaughtErrors:
    """Share of wrong draft tokens that are masked, against the share of all draft tokens that are.

    ``kind`` "threshold" is what a threshold would do to the drafts of a model whose confidences are all known. "masks" is
    what a PAR prediction did.
    """

    kind: str
    name: str
    threshold: float
    masked_share: float
    errors_caught: float

    @staticmethod
    def of(kind: str, name: str, threshold: float, masked: NDArray, tokens: DraftTokens) -> CaughtErrors:
        """The shares that the ``masked`` tokens (n,) have of all ``tokens``."""
        caught, errors = float(tokens.wrong[masked].sum()), float(tokens.wrong.sum())
        share = float(masked.sum()) / max(len(masked), 1)
        return CaughtErrors(kind, name, threshold, share, caught / max(errors, 1))


def reliability(predictions: Sequence[Prediction], bins: int = 10) -> list[ConfidenceBin]:
    """Calibration of the tokens' confidence: the bins of each prediction that hold any token."""
    rows = []
    for p in predictions:
        confidence, wrong = confidences(p, sampled(p))
        index = np.minimum((confidence * bins).astype(int), bins - 1)
        tokens, sure, correct = (np.bincount(index, weights, minlength=bins) for weights in (None, confidence, ~wrong))
        quality = ConfidenceQuality.of(confidence, wrong)
        areas = [None if np.isnan(x) else x for x in (quality.nce, quality.auc_roc, quality.auc_pr)]
        for n, c, accuracy in zip(tokens, sure, correct, strict=True):
            if n:
                rows.append(
                    ConfidenceBin(p.name, p.decoder, float(c / n), float(accuracy / n), int(n), quality.ece, *areas)
                )
    return rows


def caught_errors(predictions: Sequence[Prediction], drafts: Sequence[Drafts]) -> list[CaughtErrors]:
    """The errors that masks catch, for the ``drafts`` of each prediction.

    The drafts of one model and confidence measure count once. Missing words have no token to be masked.
    """
    rows: list[CaughtErrors] = []
    seen: set[tuple[str, float | None]] = set()  # models, and models with the threshold of a prediction
    for p, own in zip(predictions, drafts, strict=True):
        tokens = _draft_tokens(p, own)
        if not tokens.wrong.any():
            continue
        model = f"{p.metrics.hashes.model or p.name} {measure_of(p)}"
        if not np.isnan(tokens.confidence).any() and (model, None) not in seen:
            seen.add((model, None))
            name = p.name if p.decoder == "greedy" else f"drafts of {p.name}"
            for threshold in THRESHOLDS:
                rows.append(CaughtErrors.of("threshold", name, threshold, tokens.confidence < threshold, tokens))
        used = number_option(p, "threshold")
        if p.decoder == "par" and used is not None and (model, used) not in seen:
            seen.add((model, used))
            rows.append(CaughtErrors.of("masks", p.name, used, tokens.masked, tokens))
    return rows


def _draft_tokens(p: Prediction, drafts: Drafts) -> DraftTokens:
    """The draft tokens of the sampled utterances."""
    found = [(r, drafts[r.id]) for r in sampled(p) if r.id in drafts]
    return DraftTokens(
        np.array([c for _, d in found for c in d.confidence], dtype=float),
        np.array([m for _, d in found for m in d.masked], dtype=bool),
        np.array([w for r, d in found for w in wrong_tokens(p, r, d.text)], dtype=bool),
    )
