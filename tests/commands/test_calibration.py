"""The temperature of fills' confidences that ``tune`` finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from parlab.commands.tune.calibration import LEAST, TEMPERATURES, temperature, with_calibrated_fills
from parlab.data.utterance import Utterance
from parlab.decode import AR, PAR, Decoder
from parlab.types import Hypothesis, Segment


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0, 4.0])
def test_it_is_the_one_that_the_tokens_were_drawn_with(true: float) -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.02, 0.98, 20000)
    wrong = generator.uniform(size=20000) > confidence ** (1 / true)
    assert temperature(confidence, wrong) == true
    assert true in TEMPERATURES


def test_few_tokens_tell_nothing() -> None:
    confidence, wrong = np.full(LEAST, 0.1), np.zeros(LEAST, dtype=bool)
    assert temperature(confidence, wrong) == max(TEMPERATURES)  # none is wrong
    assert temperature(confidence, ~wrong) == min(TEMPERATURES)
    assert temperature(confidence[1:], wrong[1:]) == 1.0
    assert temperature(np.array([]), np.array([], dtype=bool)) == 1.0


def test_only_what_par_wrote_counts() -> None:
    """Kept tokens, and fills that are as the draft was, have other confidences and are always wrong here."""
    tokens = ["<blank>", "a", "b", "x", "y"]
    written = Segment(1, 2, (3,), (1,), 0.0, False)
    same = Segment(2, 3, (4,), (4,), 0.0, False)
    hypothesis = Hypothesis((3, 1, 4), 0.0, token_confidence=(0.9, 0.3, 0.9), segments=(written, same))
    asked: list[Decoder] = []

    def decode(decoder: Decoder) -> dict[str, Hypothesis]:
        asked.append(decoder)
        return {f"u{i}": hypothesis for i in range(40)}

    def found(right: int) -> float:
        utterances = [Utterance(f"u{i}", Path("a.wav"), "b a b" if i < right else "b b b") for i in range(40)]
        laboratory = SimpleNamespace(
            recognizer=SimpleNamespace(tokenizer=SimpleNamespace(token_list=tokens, token_type="word")),
            normalizer=str,
            encodings=SimpleNamespace(batches=[SimpleNamespace(utterances=utterances)]),
            decode=decode,
        )
        decoder = with_calibrated_fills(laboratory, PAR(0.7, fill_temperature=3.0))  # type: ignore[arg-type]
        assert isinstance(decoder, PAR) and replace(decoder, fill_temperature=1.0) == PAR(0.7)
        return decoder.fill_temperature

    assert found(12) == 1.0  # 0.3 of 40
    assert found(22) == 2.0  # 0.3 ** 0.5 = 0.55
    assert found(40) == max(TEMPERATURES)
    assert asked == [PAR(0.7)] * 3
    assert with_calibrated_fills(SimpleNamespace(), AR()) == AR()  # type: ignore[arg-type]
