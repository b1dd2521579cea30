"""Which measure tells wrong draft tokens from right ones, seen from the drafts alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from parlab.commands.tune.learning import FEATURES, LEAST, cross_fitted, fit, log_odds, named
from parlab.commands.tune.trials import Laboratory
from parlab.decode import PAR, Decoder, Greedy
from parlab.decode.confidence.measure import DEFAULT, find_measure
from parlab.metrics.confidence import ConfidenceQuality, errors_caught
from parlab.metrics.token_errors import token_errors
from parlab.types import Hypothesis

SHARES = (0.05, 0.1, 0.2)  # of tokens masked, at which caught errors are compared
TEMPERATURES = (0.5, 0.7, 0.85, 1.2, 1.5, 2.0, 3.0)
OF_CTC = (
    "posterior",
    "mean:reduce=min",
    "margin",
    "gibbs",
    "gibbs:blanks=true,reduce=min",
    "gibbs:normalization=exponential",
    "tsallis",
    "tsallis:normalization=exponential,reduce=min",
    "renyi",
)
OF_DECODER = ("decoder", "rank", "product", "product:of=gibbs+decoder")
OF_CORRECTED = (DEFAULT, "decoder", "rank", "product")  # a corrected draft is not what CTC's frames say


@dataclass(frozen=True)
class Judged:
    """A measure on n draft tokens.

    Attributes:
        confidence: (n,) of each token.
        wrong: (n,) whether it stands in a wrong word.
        caught: the share of the wrong tokens among the least sure ones, at each of ``SHARES``.
    """

    measure: str
    confidence: NDArray
    wrong: NDArray
    quality: ConfidenceQuality
    caught: tuple[float, ...]

    @property
    def rank(self) -> float:
        """The mean of ``caught``, by which measures are ordered; 0 where nothing is wrong."""
        return 0.0 if math.isnan(self.caught[0]) else sum(self.caught) / len(self.caught)

    def threshold(self, share: float) -> float:
        """The threshold that masks this share of the tokens, or a little more."""
        if len(self.confidence) == 0:
            return 0.5
        ordered = np.sort(self.confidence)
        index = min(int(share * len(ordered)), len(ordered) - 1)
        return float(min(np.nextafter(np.float32(ordered[index]), np.float32(2.0)), 1.0))


def with_errors(laboratory: Laboratory, decoder: Decoder) -> Iterator[tuple[Hypothesis, list[bool]]]:
    """The hypotheses of a decoder, sorted by id, each with whether its tokens stand in wrong words."""
    tokenizer, normalize = laboratory.recognizer.tokenizer, laboratory.normalizer
    found = laboratory.decode(decoder)
    references = {u.id: normalize(u.text or "") for b in laboratory.encodings.batches for u in b.utterances}
    of_words = tokenizer.token_type in {"word", "phn"}
    for name in sorted(found):
        texts = [tokenizer.token_list[i] for i in found[name].tokens]
        yield found[name], token_errors(texts, references[name], normalize, of_words)


def judge(laboratory: Laboratory, measure: str, start: PAR) -> Judged:
    """The confidences of the draft tokens by a measure, after the corrections that ``start`` makes."""
    confidence: list[float] = []
    wrong: list[bool] = []
    decoder: Decoder = Greedy(measure)
    if start.corrections:
        decoder = replace(start, measure=measure, threshold=0.0, policy="threshold")
    for hypothesis, errors in with_errors(laboratory, decoder):
        confidence += hypothesis.token_confidence
        wrong += errors
    sure, all_errors = np.array(confidence, dtype=float), np.array(wrong, dtype=bool)
    caught = tuple(errors_caught(sure, all_errors, share) for share in SHARES)
    return Judged(measure, sure, all_errors, ConfidenceQuality.of(sure, all_errors), caught)


def judge_all(laboratory: Laboratory, start: PAR, only: Sequence[str] = ()) -> list[Judged]:
    """All measures, the best one first; among them that of ``start``, and the posterior at the temperature that calibrates
    it best. Where ``start`` corrects drafts, those that do not read CTC's frames.

    Args:
        only: judge these and no others; empty: all.
    """
    usual = OF_CORRECTED if start.corrections else (*OF_CTC, *OF_DECODER)
    # One that is written in two ways is one.
    names = list({find_measure(name): name for name in (*usual, start.measure)}.values())
    listed = [judge(laboratory, name, start) for name in only or names]
    if only or start.corrections:
        return sorted(listed, key=lambda j: -j.rank)
    heated = [judge(laboratory, f"posterior:temperature={t}", start) for t in TEMPERATURES]
    calibrated = max(heated, key=lambda j: -math.inf if math.isnan(j.quality.nce) else j.quality.nce)
    if not calibrated.quality.nce <= listed[0].quality.nce:
        listed.append(calibrated)
    if (learned := _learned(laboratory, listed, start)) is not None:
        listed.append(learned)
    return sorted(listed, key=lambda j: -j.rank)


def _learned(laboratory: Laboratory, listed: Sequence[Judged], start: PAR) -> Judged | None:
    """The learned combination; its quality is that of tokens that its weights were not learnt from. None: too few are wrong."""
    own = {j.measure: j for j in listed}
    wrong = listed[0].wrong
    if min(wrong.sum(), (~wrong).sum()) < LEAST:
        return None
    features = log_odds([own[name].confidence for name in FEATURES])
    apart = cross_fitted(features, (~wrong).astype(float))
    found = judge(laboratory, named(FEATURES, fit(features, (~wrong).astype(float))), start)
    caught = tuple(errors_caught(apart, wrong, share) for share in SHARES)
    return replace(found, quality=ConfidenceQuality.of(apart, wrong), caught=caught)


def fitted_options(judged: Sequence[Judged]) -> dict[str, dict[str, str | float]]:
    """What was fitted to the model: the posterior's best temperature, and the learned combination where there is one."""
    found: dict[str, dict[str, str | float]] = {DEFAULT: {"temperature": 1.0}}
    for j in judged:
        name, _, given = j.measure.partition(":")
        options = dict(option.split("=", 1) for option in given.split(",") if option)
        if name == DEFAULT and options:
            found[name] = {"temperature": float(options["temperature"])}
        elif name == "learned":
            found[name] = {"of": options["of"], "weights": options["weights"], "bias": float(options["bias"])}
    return found


def measure_rows(judged: Sequence[Judged]) -> list[dict[str, str]]:
    """A row of text per measure."""
    rows = []
    for j in judged:
        q = j.quality
        row = {"measure": j.measure, "NCE": f"{q.nce:.3f}", "AUC-ROC": f"{q.auc_roc:.3f}", "AUC-PR": f"{q.auc_pr:.3f}"}
        row |= {"ECE": f"{q.ece:.3f}"}
        row |= {f"caught at {share:.0%}": f"{c:.1%}" for share, c in zip(SHARES, j.caught, strict=True)}
        rows.append(row)
    return rows
