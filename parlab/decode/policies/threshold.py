"""The tokens below the threshold, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parlab.decode.policies.policy import Doubts, Policy


@dataclass(frozen=True)
class Threshold(Policy):
    """Masks as they are: every token whose confidence is below ``threshold``."""

    name: ClassVar[str] = "threshold"

    def apply(self, doubts: Doubts) -> Doubts:
        return doubts
