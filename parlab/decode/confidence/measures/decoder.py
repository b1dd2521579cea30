"""The decoder's own probability of a draft token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, check_positive


@dataclass(frozen=True)
class DecoderProbability(Measure):
    """The decoder's probability of a token after the draft tokens before it, from one pass over the draft.

    Attributes:
        power: to which the probability is raised; below 1 it spreads small probabilities.
    """

    name: ClassVar[str] = "decoder"
    power: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self, power=self.power)

    @property
    def reads_decoder(self) -> bool:
        return True

    def confidence(self, evidence: Evidence) -> Tensor:
        return evidence.of_decoder(lambda agreement: (self.power * agreement.log_prob).exp())
