"""The highest posterior in a token's run of frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, check_positive


@dataclass(frozen=True)
class Posterior(Measure):
    """The highest posterior in a token's run of frames.

    Attributes:
        temperature: by which log-posteriors are divided first.
    """

    name: ClassVar[str] = "posterior"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, temperature=self.temperature)

    def confidence(self, evidence: Evidence) -> Tensor:
        if self.temperature == 1.0:
            return evidence.drafting.draft.confidence
        return evidence.of_frames(lambda x: torch.exp(x.amax(-1)), "max", self.temperature)
