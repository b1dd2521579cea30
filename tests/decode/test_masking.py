"""Masks of tokens and of whole words."""

from __future__ import annotations

import pytest
import torch

from parlab.decode import PAR
from parlab.decode.draft import Draft
from parlab.decode.masking import mask_below, mask_words
from parlab.errors import UserError
from parlab.text.words import word_edges

PIECES = ["<blank>", "\u2581F", "E", "B", "\u2581ON", "<noise>", "<0xC3>"]


def draft_of(tokens: list[list[int]], unsure: list[list[int]]) -> Draft:
    """A draft whose tokens are sure but for those at the indices ``unsure``."""
    size = max(map(len, tokens))
    confidence = torch.ones(len(tokens), size)
    for row, indices in enumerate(unsure):
        confidence[row, indices] = 0.1
    padded = torch.tensor([row + [0] * (size - len(row)) for row in tokens], dtype=torch.long)
    zeros = torch.zeros_like(padded)
    lengths = torch.tensor([len(row) for row in tokens], dtype=torch.long)
    return Draft(padded, lengths, confidence, zeros, zeros, lengths, torch.zeros(len(tokens)))


def masked(draft: Draft, token_list: list[str], kind: str) -> list[list[int]]:
    """The masked indices of each utterance."""
    found = mask_words(draft, mask_below(draft, 0.5), torch.tensor(word_edges(token_list, kind)))
    return [row.nonzero().flatten().tolist() for row in found]


def test_pieces_grow_to_words() -> None:
    """A word ends where the next one begins; a symbol is a word of its own; padding is never masked."""
    draft = draft_of([[1, 2, 3, 4, 6], [4, 5, 3], [2, 1]], [[2], [1], [0]])
    assert masked(draft, PIECES, "bpe") == [[0, 1, 2], [1], [0]]
    assert masked(draft_of([[1, 2, 3, 4, 6]], [[4]]), PIECES, "bpe") == [[3, 4]]


def test_characters_grow_to_words_between_spaces() -> None:
    tokens = ["<blank>", "<space>", "a", "b", "<sos/eos>"]
    draft = draft_of([[2, 3, 1, 3, 2], [2, 3, 1, 3, 2]], [[4], [2]])
    assert masked(draft, tokens, "char") == [[3, 4], [2]]


@pytest.mark.parametrize("kind", ["word", "phn"])
def test_words_and_phonemes_are_units_already(kind: str) -> None:
    draft = draft_of([[2, 3, 1], [3, 2]], [[1], [0]])
    assert masked(draft, ["<blank>", "a", "b", "c"], kind) == [[1], [0]]


def test_an_empty_draft() -> None:
    assert masked(draft_of([[], []], [[], []]), PIECES, "bpe") == [[], []]


def test_other_units_are_refused() -> None:
    with pytest.raises(UserError, match="mask_unit is 'sentence', expected 'token' or 'word'"):
        PAR(mask_unit="sentence")
