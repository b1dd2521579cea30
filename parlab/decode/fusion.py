"""Shallow fusion: where a decoder's ``lm`` and ``lm_weight`` options become scorers and scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parlab.decode.prompts import pad_tokens
from parlab.decode.scorers.language_model import LanguageModelScorer
from parlab.model.language_model import read_language_model


def lm_scorer(
    lm: str | None, weight: float, prefixes: Sequence[Sequence[int]], vocabulary: int, device: torch.device
) -> LanguageModelScorer | None:
    """The scorer of a search, or None where no language model is asked for."""
    if lm is None or weight == 0:
        return None
    return LanguageModelScorer(read_language_model(lm, vocabulary, device), prefixes, weight, device)


def lm_scores(
    lm: str | None,
    weight: float,
    prefixes: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    vocabulary: int,
    device: torch.device,
) -> Tensor:
    """Weighted log-probability (N,) of each continuation after its prefix; zeros without a language model."""
    if lm is None or weight == 0:
        return torch.zeros(len(prefixes), device=device)
    model = read_language_model(lm, vocabulary, device)
    tokens, lengths = pad_tokens([[*p, *c] for p, c in zip(prefixes, continuations, strict=True)], device)
    logits = model.lm(tokens[:, :-1], None)[0].float()
    scores = torch.log_softmax(logits, -1).gather(2, tokens[:, 1:].unsqueeze(2)).squeeze(2)
    place = torch.arange(1, tokens.size(1), device=device)
    first = torch.tensor([len(p) for p in prefixes], device=device).unsqueeze(1)
    counted = (place >= first) & (place < lengths.unsqueeze(1))
    return weight * scores.masked_fill(~counted, 0.0).sum(1)
