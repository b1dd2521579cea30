"""Rényi's entropy of a token's frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.entropy import ParametricEntropy


@dataclass(frozen=True)
class Renyi(ParametricEntropy):
    """Rényi's entropy: log(sum p^alpha) / (1 - alpha)."""

    name: ClassVar[str] = "renyi"

    def entropy(self, log_probs: Tensor) -> Tensor:
        return torch.logsumexp(self.alpha * log_probs, -1) / (1 - self.alpha)

    def highest(self, size: int) -> float:
        return math.log(size)
