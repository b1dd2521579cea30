"""A combination of measures that was learnt: logistic regression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, find_measure
from parlab.errors import UserError

CLIP = 1e-4  # confidences go no further towards 0 and 1: the sure ones of CTC are many, and all alike


@dataclass(frozen=True)
class Learned(Measure):
    """The probability that a token is right, by the log-odds of other measures; ``tune`` learns the weights.

    Attributes:
        of: names of measures, ``+`` between them; each with its default options.
        weights: of their log-odds, likewise.
        bias: that is added.
    """

    name: ClassVar[str] = "learned"
    of: str = "posterior+decoder"
    weights: str = "1+1"
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.name in self.of.split("+"):
            raise UserError(
                f"the option of of the measure learned is '{self.of}', expected other measures than learned"
            )
        if len(self.numbers) != len(self.parts):
            raise UserError(
                f"the measure learned has {len(self.numbers)} weights ({self.weights}), expected one for each of {self.of}"
            )

    @cached_property
    def parts(self) -> tuple[Measure, ...]:
        """The measures."""
        return tuple(find_measure(name) for name in self.of.split("+"))

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

    @property
    def reads_decoder(self) -> bool:
        return any(part.reads_decoder for part in self.parts)

    def confidence(self, evidence: Evidence) -> Tensor:
        values = torch.stack([part.confidence(evidence) for part in self.parts], -1)
        odds = torch.logit(values.double(), eps=CLIP) @ torch.tensor(self.numbers, dtype=torch.float64)
        return torch.sigmoid(odds + self.bias).float()
