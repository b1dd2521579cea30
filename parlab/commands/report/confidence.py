"""Can the confidence be trusted: calibration, and which errors the masks catch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from parlab.commands.report.drafts import Drafts, wrong_tokens
from parlab.commands.report.tables import number_option
from parlab.predictions.prediction import Prediction

THRESHOLDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


@dataclass(frozen=True)
class ConfidenceBin:
    """Tokens of similar confidence: its mean, the share of tokens in right words, and their number.

    ``ece`` is the expected calibration error of the whole prediction: the mean distance of the two, weighted by tokens.
    """

    name: str
    decoder: str
    confidence: float
    accuracy: float
    tokens: int
    ece: float


@dataclass(frozen=True)
class DraftToken:
    """A draft token: its confidence (None: not known), whether it was masked, and whether its word is wrong."""

    confidence: float | None
    masked: bool
    wrong: bool


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
    def of(
        kind: str, name: str, threshold: float, masked: Sequence[DraftToken], tokens: Sequence[DraftToken]
    ) -> CaughtErrors:
        """The shares that the ``masked`` tokens have of all ``tokens``."""
        caught, errors = (sum(t.wrong for t in some) for some in (masked, tokens))
        return CaughtErrors(kind, name, threshold, len(masked) / max(len(tokens), 1), caught / max(errors, 1))


def reliability(predictions: Sequence[Prediction], bins: int = 10) -> list[ConfidenceBin]:
    """Calibration of the tokens' confidence: the bins of each prediction that hold any token."""
    rows = []
    for p in predictions:
        # Confidence and correctness of the tokens in each bin.
        entries: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        for r in p.scored:
            for confidence, wrong in zip(r.token_confidence, wrong_tokens(p, r, r.token_text), strict=True):
                if confidence is not None:
                    entries[min(int(confidence * bins), bins - 1)].append((confidence, not wrong))
        count = sum(map(len, entries.values()))
        ece = sum(abs(sum(c - right for c, right in entry)) for entry in entries.values()) / max(count, 1)
        for _, entry in sorted(entries.items()):
            confidence = sum(c for c, _ in entry) / len(entry)
            accuracy = sum(right for _, right in entry) / len(entry)
            rows.append(ConfidenceBin(p.name, p.decoder, confidence, accuracy, len(entry), ece))
    return rows


def caught_errors(predictions: Sequence[Prediction], drafts: Sequence[Drafts]) -> list[CaughtErrors]:
    """The errors that masks catch, for the ``drafts`` of each prediction.

    The drafts of one model count once. Missing words have no token to be masked.
    """
    rows: list[CaughtErrors] = []
    seen: set[tuple[str, float | None]] = set()  # models, and models with the threshold of a prediction
    for p, own in zip(predictions, drafts, strict=True):
        tokens = _draft_tokens(p, own)
        if not any(t.wrong for t in tokens):
            continue
        model = p.metrics.hashes.model or p.name
        if all(t.confidence is not None for t in tokens) and (model, None) not in seen:
            seen.add((model, None))
            name = p.name if p.decoder == "greedy" else f"drafts of {p.name}"
            for threshold in THRESHOLDS:
                masked = [t for t in tokens if t.confidence is not None and t.confidence < threshold]
                rows.append(CaughtErrors.of("threshold", name, threshold, masked, tokens))
        used = number_option(p, "threshold")
        if p.decoder == "par" and used is not None and (model, used) not in seen:
            seen.add((model, used))
            rows.append(CaughtErrors.of("masks", p.name, used, [t for t in tokens if t.masked], tokens))
    return rows


def _draft_tokens(p: Prediction, drafts: Drafts) -> list[DraftToken]:
    """All draft tokens of the scored utterances."""
    tokens = []
    for r in p.scored:
        if r.id in drafts:
            d = drafts[r.id]
            tokens += [DraftToken(*t) for t in zip(d.confidence, d.masked, wrong_tokens(p, r, d.text), strict=True)]
    return tokens
