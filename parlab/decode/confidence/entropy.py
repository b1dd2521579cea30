"""Confidences from the entropy of a frame's posteriors (Laptev and Ginsburg 2022, arXiv:2212.08703).

An entropy H becomes a confidence that is 1 where one token has all, and 0 where all tokens have the same: linearly,
1 - H / max H, or exponentially, (exp(-H) - exp(-max H)) / (1 - exp(-max H)).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, check_positive, check_reduction
from parlab.errors import UserError, nearest

NORMALIZATIONS = ("linear", "exponential")


@dataclass(frozen=True)
class Entropy(Measure):
    """A measure from an entropy.

    Attributes:
        normalization: ``linear`` or ``exponential``.
        reduce: ``mean``, ``min`` or ``max`` over a token's frames.
        blanks: whether the blank frames after a token count to it.
        temperature: by which log-posteriors are divided first.
    """

    normalization: str = "linear"
    reduce: str = "mean"
    blanks: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_reduction(self, self.reduce)
        check_positive(self, temperature=self.temperature)
        if self.normalization not in NORMALIZATIONS:
            raise UserError(
                f"the option normalization of the measure {self.name} is '{self.normalization}', expected linear or "
                f"exponential{nearest(self.normalization, NORMALIZATIONS)}"
            )

    @abstractmethod
    def entropy(self, log_probs: Tensor) -> Tensor:
        """The entropy (n,) of log-posteriors (n, V), in nats."""

    @abstractmethod
    def highest(self, size: int) -> float:
        """The entropy of a uniform distribution over ``size`` tokens."""

    def confidence(self, evidence: Evidence) -> Tensor:
        return evidence.of_frames(self._of_frames, self.reduce, self.temperature, self.blanks)

    def _of_frames(self, log_probs: Tensor) -> Tensor:
        entropy, highest = self.entropy(log_probs), self.highest(log_probs.size(-1))
        if self.normalization == "linear":
            return 1 - entropy / highest
        least = math.exp(-highest)
        return (torch.exp(-entropy) - least) / (1 - least)


@dataclass(frozen=True)
class ParametricEntropy(Entropy):
    """An entropy with a parameter.

    Attributes:
        alpha: the parameter: above 0, not 1; below 1 improbable tokens count more.
    """

    alpha: float = 1 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, alpha=self.alpha)
        if self.alpha == 1:
            raise UserError(
                f"the option alpha of the measure {self.name} is 1, expected another number; name gibbs instead"
            )
