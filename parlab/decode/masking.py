"""Masks: which draft tokens are not trusted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.draft import Draft

UNITS = ("token", "word")  # what is masked as one


@dataclass(frozen=True)
class Masks:
    """What is searched again.

    Attributes:
        tokens: (B, U) true where a draft token is masked.
        gaps: (B, U + 1) true where a token may be missing: before token u, and after the last one. None: nowhere.
    """

    tokens: Tensor
    gaps: Tensor | None = None


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
    inside = torch.arange(masked.size(1), device=masked.device) < draft.lengths.unsqueeze(1)
    return grow_to_words(masked, begins) & inside


def grow_to_words(masked: Tensor, begins: Tensor) -> Tensor:
    """Grow ``masked`` (B, U) to whole words, the first tokens of which are true in ``begins`` (B, U)."""
    word = begins.cumsum(1)  # number of the word that a token belongs to
    unsure = masked.new_zeros(len(masked), masked.size(1) + 1, dtype=torch.int8)
    unsure.scatter_reduce_(1, word, masked.to(torch.int8), "amax")
    return unsure.gather(1, word).bool()
