"""Tsallis' entropy of a token's frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.entropy import ParametricEntropy


@dataclass(frozen=True)
class Tsallis(ParametricEntropy):
    """Tsallis' entropy: (1 - sum p^alpha) / (alpha - 1)."""

    name: ClassVar[str] = "tsallis"

    def entropy(self, log_probs: Tensor) -> Tensor:
        return (1 - torch.exp(self.alpha * log_probs).sum(-1)) / (self.alpha - 1)

    def highest(self, size: int) -> float:
        return (1 - size ** (1 - self.alpha)) / (self.alpha - 1)
