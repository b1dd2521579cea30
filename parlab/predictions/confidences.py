"""Confidences of what a prediction wrote, and which of its tokens are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parlab.metrics.confidence import ConfidenceQuality
from parlab.metrics.token_errors import BOUNDARY, SPACE, token_errors
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction
from parlab.text.normalizer import normalizer

SAMPLE = 10_000  # utterances of a prediction whose tokens are looked at


def sampled(p: Prediction) -> list[UtteranceRecord]:
    """At most ``SAMPLE`` of the scored utterances, evenly spaced: enough for every digit that a picture shows."""
    return p.scored[:: -(-len(p.scored) // SAMPLE) or 1]


def confidences(p: Prediction, records: Sequence[UtteranceRecord]) -> tuple[NDArray, NDArray]:
    """The known confidences (n,) of the tokens of scored utterances, and whether each stands in a wrong word (n,)."""
    given = [c for r in records for c in r.token_confidence]
    wrong = [w for r in records for w in wrong_tokens(p, r, r.token_text)]
    values = np.array(given, dtype=float)  # None becomes NaN
    known = ~np.isnan(values)
    return values[known], np.array(wrong, dtype=bool)[known]


def confidence_quality(p: Prediction) -> ConfidenceQuality | None:
    """How good the confidences of a prediction are; None where no token of a scored utterance has one."""
    values, wrong = confidences(p, sampled(p))
    return ConfidenceQuality.of(values, wrong) if len(values) else None


def wrong_tokens(p: Prediction, record: UtteranceRecord, tokens: tuple[str, ...]) -> list[bool]:
    """Whether each of ``tokens``, the result's or the draft's, stands in a wrong word of a scored utterance."""
    return _wrong_tokens(p.metrics.normalizer.name, tokens, p.reference(record), p.words_are_tokens)


@lru_cache(maxsize=2**17)  # the drafts of PAR are greedy's results
def _wrong_tokens(name: str, tokens: tuple[str, ...], reference: str, words_are_tokens: bool) -> list[bool]:
    if not words_are_tokens:
        text = "".join(tokens).replace(SPACE, " ").replace(BOUNDARY, " ")
        words = text.split(" ")
        if " ".join(filter(None, words)) == reference and all(_normal(name, word) == word for word in words):
            return [False] * len(tokens)  # most utterances of a good model
    return token_errors(tokens, reference, lambda word: _normal(name, word), words_are_tokens)


@lru_cache(maxsize=2**16)
def _normal(name: str, word: str) -> str:
    return normalizer(name)(word)
