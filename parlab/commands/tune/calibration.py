"""The temperature at which the confidences of what PAR writes are calibrated best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from parlab.commands.tune.measures import with_errors
from parlab.commands.tune.trials import Laboratory
from parlab.decode import PAR, Decoder
from parlab.text.spoken import filled_tokens

LEAST = 20  # tokens of fills, without which nothing is fitted
TEMPERATURES = (0.5, 0.6, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)
_CLIP = 1e-4  # so that no one token decides


def with_calibrated_fills(laboratory: Laboratory, decoder: Decoder) -> Decoder:
    """PAR with the temperature that calibrates its fills best, if it writes enough of them; another decoder as it is."""
    if not isinstance(decoder, PAR):
        return decoder
    confidence: list[float] = []
    wrong: list[bool] = []
    for hypothesis, errors in with_errors(laboratory, replace(decoder, fill_temperature=1.0)):
        filled = filled_tokens(len(hypothesis.tokens), hypothesis.segments)
        confidence += [c for c, inside in zip(hypothesis.token_confidence, filled, strict=True) if inside]
        wrong += [error for error, inside in zip(errors, filled, strict=True) if inside]
    return replace(decoder, fill_temperature=temperature(np.array(confidence), np.array(wrong, dtype=bool)))


def temperature(confidence: NDArray, wrong: NDArray) -> float:
    """The temperature at which n confidences are the likeliest ones of tokens of which some are ``wrong`` (n,); 1 where they are too few."""
    if len(wrong) < LEAST:
        return 1.0

    def likelihood(t: float) -> float:
        chance = np.clip(confidence ** (1 / t), _CLIP, 1 - _CLIP)
        return float(np.log(np.where(wrong, 1 - chance, chance)).mean())

    return max(TEMPERATURES, key=likelihood)
