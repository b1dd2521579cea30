"""A bonus for every token (ESPnet's ``length_bonus``, its ``penalty``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers import CandidateScorer, Rows
from parlab.decode.search.plan import Plan


@dataclass(frozen=True)
class LengthBonus(CandidateScorer[None]):
    """``weight`` for each token, the stop token included, as ESPnet counts it."""

    weight: float
    falling: bool = False

    def start(self) -> None:
        return None

    def score(self, state: None, candidates: Tensor, stop: Tensor) -> Tensor:
        return torch.ones_like(candidates, dtype=torch.float32)

    def advance(self, state: None, rows: Rows) -> None:
        return None

    def fixed(self, plan: Plan) -> LengthBonus:
        return self
