"""The mean posterior over a token's run of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, check_positive, check_reduction


@dataclass(frozen=True)
class Mean(Measure):
    """The mean posterior over a token's run of frames.

    Attributes:
        reduce: ``mean``, or ``min`` for the least sure frame.
        blanks: whether the blank frames after a token count to it.
        temperature: by which log-posteriors are divided first.
    """

    name: ClassVar[str] = "mean"
    reduce: str = "mean"
    blanks: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_reduction(self, self.reduce)
        check_positive(self, temperature=self.temperature)

    def confidence(self, evidence: Evidence) -> Tensor:
        return evidence.of_frames(lambda x: torch.exp(x.amax(-1)), self.reduce, self.temperature, self.blanks)
