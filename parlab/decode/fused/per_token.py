"""The same for every token, which an automaton adds as it does n-grams."""

from __future__ import annotations

import torch
from torch import Tensor

from parlab.decode.fused.automaton import ROOT, Automaton


class PerToken(Automaton):
    """1 for each token of a text, and for its end."""

    def __init__(self, device: torch.device):
        self.memory, self.begin, self.device = 0, ROOT, device

    def gains(self, state: Tensor, tokens: Tensor) -> Tensor:
        return torch.ones(tokens.shape, device=tokens.device)

    def step(self, state: Tensor, tokens: Tensor) -> Tensor:
        return torch.zeros_like(state)
