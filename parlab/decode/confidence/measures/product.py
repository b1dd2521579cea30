"""The product of two or more measures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.evidence import Evidence
from parlab.decode.confidence.measure import Measure, find_measure
from parlab.errors import UserError


@dataclass(frozen=True)
class Product(Measure):
    """The geometric mean of measures, as of CTC's posterior and the decoder's probability.

    Attributes:
        of: names of measures, ``+`` between them; each with its default options.
    """

    name: ClassVar[str] = "product"
    of: str = "posterior+decoder"

    def __post_init__(self) -> None:
        if self.name in self.of.split("+"):
            raise UserError(
                f"the option of of the measure product is '{self.of}', expected other measures than product"
            )
        _ = self.parts

    @cached_property
    def parts(self) -> tuple[Measure, ...]:
        """The measures."""
        return tuple(find_measure(name) for name in self.of.split("+"))

    @property
    def reads_decoder(self) -> bool:
        return any(part.reads_decoder for part in self.parts)

    def confidence(self, evidence: Evidence) -> Tensor:
        values = torch.stack([part.confidence(evidence).clamp(0.0, 1.0) for part in self.parts])
        return values.log().mean(0).exp()
