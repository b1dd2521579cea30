"""Utterances whose encoder output or scores are no numbers (NaN), as where float16 overflows: they fail, others do not."""

from __future__ import annotations

import math

from parlab.model.encoded import Encoded
from parlab.model.features import padding_mask
from parlab.types import Hypothesis

NO_NUMBERS = (
    "the model's scores for it are not finite (NaN or infinite), expected numbers; decode it with --precision 32-true "
    "(float32), and check its audio and the weights"
)


def find_usable(encoded: Encoded) -> list[int]:
    """Indices of the utterances whose posteriors (or encoder states, without CTC) are numbers; padding does not count.

    One reduction and one copy to the host a batch. A log-posterior of minus infinity is a number here.
    """
    values = encoded.states if encoded.ctc_log_probs is None else encoded.ctc_log_probs
    worst = values.amax(-1)  # (B, T); the maximum of a row with a NaN is NaN, and any infinite logit makes all NaN
    broken = (worst.isnan() | worst.isposinf()) & ~padding_mask(encoded.frames, worst.size(1))
    return [i for i, bad in enumerate(broken.any(1).tolist()) if not bad]


def has_numbers(hypothesis: Hypothesis) -> bool:
    """Whether score, confidences and segments of a hypothesis are numbers; a score of minus infinity is one here."""
    scores = (hypothesis.score, *hypothesis.token_confidence, *(s.score for s in hypothesis.segments))
    return not any(math.isnan(score) or score == math.inf for score in scores)
