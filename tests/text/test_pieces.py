"""Token lists that belong to a sentencepiece model, and others."""

from __future__ import annotations

import random

import pytest

from parlab.errors import UserError
from parlab.text.pieces import check_pieces

PIECES = ["<unk>", "<s>", "</s>", *(f"\u2581w{i}" for i in (7, 3, 9, 1)), *"tasinoper"]
INNER = PIECES[3:]
SYMBOLS = ["<na>", "<eng>", "<asr>", "<0.00>", "<0.02>", "[noise]"]


@pytest.mark.parametrize(
    "tokens",
    [
        ["<blank>", "<unk>", *INNER, "<sos/eos>"],
        ["<blank>", "<unk>", *INNER[2:], "<sos/eos>"],  # what the training data lack is left out
        ["<blank>", "<unk>", *sorted(INNER), "<sos/eos>"],  # ESPnet 1
        ["<blank>", "<unk>", *SYMBOLS, *INNER, "<sos>", "<eos>", "<sop>"],
        ["<blank>", "<unk>", *INNER, "added", "<sos/eos>"],  # a word of a fine-tuning
    ],
)
def test_lists_that_belong(tokens: list[str]) -> None:
    check_pieces(tokens, PIECES, "bpe.model")


def test_lists_that_do_not() -> None:
    shuffled = random.Random(0).sample(INNER, len(INNER))
    with pytest.raises(UserError, match="in another order"):
        check_pieces(["<blank>", "<unk>", *shuffled, "<sos/eos>"], PIECES, "bpe.model")
    others = [f"\u2581x{i}" for i in range(10)]
    with pytest.raises(UserError, match="10 of its 12 tokens are no pieces"):
        check_pieces(["<blank>", "<unk>", *others, *INNER[:2], "<sos/eos>"], PIECES, "bpe.model")
    with pytest.raises(UserError, match=r"not that of bpe\.model"):
        check_pieces(["<blank>", "<unk>", "<sos/eos>"], PIECES, "bpe.model")
