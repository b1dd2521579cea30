"""Gibbs' (Shannon's) entropy of a token's frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from parlab.decode.confidence.entropy import Entropy


@dataclass(frozen=True)
class Gibbs(Entropy):
    """Gibbs' (Shannon's) entropy: -sum p log p."""

    name: ClassVar[str] = "gibbs"

    def entropy(self, log_probs: Tensor) -> Tensor:
        return -(log_probs.exp() * log_probs).nan_to_num(0.0).sum(-1)

    def highest(self, size: int) -> float:
        return math.log(size)
