"""Shallow fusion: a decoder's options ``lm`` and ``lm_weight`` as a scorer of rows, or as scores of given tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers.language_model import LanguageModelScorer
from parlab.model.hybrid import HybridModel
from parlab.model.language_model import LanguageModel, read_language_model
from parlab.text.padding import pad_tokens
from parlab.transfer import to_device

TokenRows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Fusion:
    """A language model with its weight, on a device."""

    model: LanguageModel
    weight: float
    device: torch.device

    def scorer(self, prefixes: TokenRows) -> LanguageModelScorer:
        """The scorer of a search whose groups start from ``prefixes``, start symbol first."""
        return LanguageModelScorer(self.model, prefixes, self.weight, self.device)

    def scores(self, prefixes: TokenRows, continuations: TokenRows) -> Tensor:
        """Weighted log-probability (N,) of each continuation after its prefix."""
        rows = [[*p, *c] for p, c in zip(prefixes, continuations, strict=True)]
        starts = torch.tensor([len(p) for p in prefixes])
        tokens, lengths, first = to_device(self.device, *pad_tokens(rows), starts)
        scores = (
            torch.log_softmax(self.model.scores(tokens[:, :-1]), -1).gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2)
        )
        position = torch.arange(1, tokens.size(1), device=self.device)
        counted = (position >= first.unsqueeze(1)) & (position < lengths.unsqueeze(1))
        return self.weight * scores.masked_fill(~counted, 0.0).sum(1)


def fusion(lm: str | None, weight: float, model: HybridModel, device: torch.device) -> Fusion | None:
    """The language model in the folder ``lm``, read once per process; None without ``lm`` or with weight 0.

    Raises:
        UserError: the folder holds no language model of the speech model's vocabulary.
    """
    if lm is None or weight == 0:
        return None
    return Fusion(read_language_model(lm, model.vocab_size, device), weight, device)
