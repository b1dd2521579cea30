"""The decoder's rank of a draft token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from parlab.decode.confidence.evidence import Agreement, Evidence
from parlab.decode.confidence.measure import Measure


@dataclass(frozen=True)
class Rank(Measure):
    """1 / (1 + n), where the decoder finds n other tokens more probable than the draft's, from one pass over the draft."""

    name: ClassVar[str] = "rank"

    @property
    def reads_decoder(self) -> bool:
        return True

    @property
    def reads_rank(self) -> bool:
        return True

    def confidence(self, evidence: Evidence) -> Tensor:
        return evidence.of_decoder(_reciprocal)


def _reciprocal(agreement: Agreement) -> Tensor:
    assert agreement.rank is not None, "a pass for this measure counts ranks"
    return 1.0 / (1.0 + agreement.rank.float())
