"""How far the best label is above the second best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, check_positive, check_reduction


@dataclass(frozen=True)
class Margin(Measure):
    """The posterior of the best label less that of the second best.

    Attributes:
        reduce: ``mean``, ``min`` or ``max`` over a token's frames.
        temperature: by which log-posteriors are divided first.
    """

    name: ClassVar[str] = "margin"
    reduce: str = "max"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_reduction(self, self.reduce)
        check_positive(self, temperature=self.temperature)

    def confidence(self, evidence: Evidence) -> Tensor:
        return evidence.of_frames(_margin, self.reduce, self.temperature)


def _margin(log_probs: Tensor) -> Tensor:
    best = log_probs.topk(2, dim=-1).values.exp()
    return best[:, 0] - best[:, 1]
