"""Shallow fusion of a language model, in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parlab.decode.scorers import Rows, VocabularyScorer
from parlab.model.language_model import LanguageModel
from parlab.text.padding import pad_tokens
from parlab.transfer import to_device


@dataclass(frozen=True)
class LanguageState:
    """Logits (N, V) of the next token; the rows' tokens (N, L) and lengths, or a recurrent state."""

    logits: Tensor
    tokens: Tensor
    lengths: Tensor
    recurrent: Any


@dataclass(frozen=True)
class LanguageModelScorer(VocabularyScorer[LanguageState]):
    """Language-model log-probabilities; ``prefixes`` holds each group's tokens so far, start symbol first."""

    model: LanguageModel
    prefixes: Sequence[Sequence[int]]
    weight: float
    device: torch.device

    def start(self) -> LanguageState:
        padded, sizes = pad_tokens(self.prefixes)
        tokens, lengths = to_device(self.device, padded, sizes)
        logits, recurrent = self.model.read(tokens, lengths, sizes)
        return LanguageState(logits, tokens, lengths, recurrent)

    def score(self, state: LanguageState) -> tuple[Tensor, Tensor]:
        return state.logits, torch.logsumexp(state.logits, 1, keepdim=True)

    def advance(self, state: LanguageState, rows: Rows) -> LanguageState:
        if self.model.recurrent:
            kept = _select(state.recurrent, rows.parents)
            logits, recurrent = self.model.step(rows.tokens, kept)
            return LanguageState(logits, state.tokens, state.lengths, recurrent)
        tokens = torch.nn.functional.pad(state.tokens[rows.parents], (0, 1))
        lengths = state.lengths[rows.parents]
        tokens[torch.arange(len(tokens), device=tokens.device), lengths] = rows.tokens
        logits, _ = self.model.read(tokens, lengths + 1)
        return LanguageState(logits, tokens, lengths + 1, None)


def _select(state: Any, rows: Tensor) -> Any:
    """Rows of a recurrent state: (layers, N, H), or a pair of them."""
    return tuple(part[:, rows] for part in state) if isinstance(state, tuple) else state[:, rows]
