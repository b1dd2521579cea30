"""Masks: which draft tokens are not trusted."""

from __future__ import annotations

import torch
from torch import Tensor

from parlab.decode.draft import Draft

UNITS = ("token", "word")  # what is masked as one


def mask_below(draft: Draft, threshold: float) -> Tensor:
    """True (B, U) where a token's confidence is below ``threshold``."""
    inside = torch.arange(draft.tokens.size(1), device=draft.tokens.device) < draft.lengths.unsqueeze(1)
    return (draft.confidence < threshold) & inside


def mask_words(draft: Draft, masked: Tensor, edges: Tensor) -> Tensor:
    """Grow ``masked`` (B, U) to whole words: a word is masked where one of its tokens is.

    Args:
        edges: (2, V) ids that begin a word, and ids after which a word begins (``HybridModel.word_edges``).
    """
    begins, ended = edges[0, draft.tokens], edges[1, draft.tokens]
    begins[:, 1:] |= ended[:, :-1]
    word = begins.cumsum(1)  # number of the word that a token belongs to
    inside = torch.arange(masked.size(1), device=masked.device) < draft.lengths.unsqueeze(1)
    unsure = masked.new_zeros(len(masked), masked.size(1) + 1, dtype=torch.int8)
    unsure.scatter_reduce_(1, word, masked.to(torch.int8), "amax")
    return unsure.gather(1, word).bool() & inside
