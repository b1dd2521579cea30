"""A combination of measures that was learnt: logistic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.combined import Combined
from parlab.decode.confidence.evidence import Evidence
from parlab.errors import UserError

CLIP = 1e-4  # confidences go no further towards 0 and 1: the sure ones of CTC are many, and all alike


@dataclass(frozen=True)
class Learned(Combined):
    """The probability that a token is right, by the log-odds of other measures; ``tune`` learns the weights.

    Attributes:
        weights: of the measures' log-odds, ``+`` between them.
        bias: that is added.
    """

    name: ClassVar[str] = "learned"
    weights: str = "1+1"
    bias: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.numbers) != len(self.parts):
            raise UserError(
                f"the measure learned has {len(self.numbers)} weights ({self.weights}), expected one for each of {self.of}"
            )

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The weights."""
        try:
            found = tuple(float(weight) for weight in self.weights.split("+"))
        except ValueError:
            found = (math.nan,)
        if not all(map(math.isfinite, (*found, self.bias))):
            raise UserError(
                f"the measure learned has the weights '{self.weights}' and the bias {self.bias}, expected numbers with + between "
                "them; correct them"
            )
        return found

    def confidence(self, evidence: Evidence) -> Tensor:
        values = torch.stack([part.confidence(evidence) for part in self.parts], -1)
        odds = torch.logit(values.double(), eps=CLIP) @ torch.tensor(self.numbers, dtype=torch.float64)
        return torch.sigmoid(odds + self.bias).float()
