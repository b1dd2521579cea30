"""The product of two or more measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.combined import Combined
from parlab.decode.confidence.evidence import Evidence


@dataclass(frozen=True)
class Product(Combined):
    """The geometric mean of measures, as of CTC's posterior and the decoder's probability."""

    name: ClassVar[str] = "product"

    def confidence(self, evidence: Evidence) -> Tensor:
        values = torch.stack([part.confidence(evidence).clamp(0.0, 1.0) for part in self.parts])
        return values.log().mean(0).exp()
