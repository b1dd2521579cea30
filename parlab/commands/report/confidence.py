"""Can the confidence be trusted: calibration, and which errors the masks catch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from parlab.commands.report.data import Table
from parlab.commands.report.drafts import Draft, token_errors
from parlab.predictions.loaded import Prediction

THRESHOLDS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)


def reliability(predictions: Sequence[Prediction], bins: int = 10) -> Table:
    """Calibration of the tokens' confidence: per bin its mean confidence and the share of tokens in right words.

    ``ece`` is the expected calibration error of the whole prediction: the mean distance of the two, weighted by tokens.
    """
    rows: Table = []
    for p in predictions:
        held: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        for r in p.scored:
            wrong = token_errors(r["token_text"], p.normalized(r["ref"]), p.normalized, p.words_are_tokens)
            for confidence, bad in zip(r["token_confidence"], wrong, strict=True):
                if confidence is not None:
                    held[min(int(confidence * bins), bins - 1)].append((confidence, not bad))
        count = sum(map(len, held.values()))
        ece = sum(abs(sum(c - right for c, right in entries)) for entries in held.values()) / max(count, 1)
        rows += [
            {
                "name": p.name,
                "decoder": p.decoder,
                "confidence": sum(c for c, _ in entries) / len(entries),
                "accuracy": sum(right for _, right in entries) / len(entries),
                "tokens": len(entries),
                "ece": ece,
            }
            for _, entries in sorted(held.items())
        ]
    return rows


def caught_errors(predictions: Sequence[Prediction], own: Sequence[dict[str, Draft]]) -> Table:
    """Share of wrong draft tokens that are masked, against the share of all draft tokens that are.

    ``kind`` "threshold" is what a threshold would do to the drafts of a model whose confidences are all known; "masks" is
    what a PAR prediction did. The drafts of one model are told once. Missing words have no token to be masked.
    """
    rows: Table = []
    told: set[tuple[str, float | None]] = set()
    for p, drafts in zip(predictions, own, strict=True):
        tokens = _tokens(p, drafts)
        errors = sum(wrong for _, _, wrong in tokens)
        if not errors:
            continue
        model = p.hashes.get("model", p.name)
        if all(confidence is not None for confidence, _, _ in tokens) and (model, None) not in told:
            told.add((model, None))
            for threshold in THRESHOLDS:
                masked = [wrong for confidence, _, wrong in tokens if confidence is not None and confidence < threshold]
                rows.append(_caught("threshold", _drafts_of(p), threshold, masked, len(tokens), errors))
        own_threshold = p.options.get("threshold")
        if p.decoder == "par" and own_threshold is not None and (model, float(own_threshold)) not in told:
            told.add((model, float(own_threshold)))
            masked = [wrong for _, was_masked, wrong in tokens if was_masked]
            rows.append(_caught("masks", p.name, float(own_threshold), masked, len(tokens), errors))
    return rows


def _drafts_of(p: Prediction) -> str:
    return f"drafts of {p.name}" if p.decoder != "greedy" else p.name


def _tokens(p: Prediction, drafts: dict[str, Draft]) -> list[tuple[float | None, bool, bool]]:
    """Confidence, mask and error of all draft tokens of the scored utterances."""
    out = []
    for r in p.scored:
        if r["id"] in drafts:
            d = drafts[r["id"]]
            wrong = token_errors(d.text, p.normalized(r["ref"]), p.normalized, p.words_are_tokens)
            out += list(zip(d.confidence, d.masked, wrong, strict=True))
    return out


def _caught(kind: str, name: str, threshold: float, masked: list[bool], tokens: int, errors: int) -> dict[str, object]:
    shares = {"masked_share": len(masked) / max(tokens, 1), "errors_caught": sum(masked) / max(errors, 1)}
    return {"kind": kind, "name": name, "threshold": threshold, **shares}
