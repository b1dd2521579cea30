"""Places where CTC may have left a token out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from parlab.decode.policies.policy import Doubts, Policy, check_share


@dataclass(frozen=True)
class Gaps(Policy):
    """A place between two sure tokens where blank is unsure becomes a segment of no tokens: the search may fill it.

    A gap beside a masked token belongs to that token's segment already. An utterance without a draft has no gaps.

    Attributes:
        below: blank's least posterior between two tokens below which the place is searched.
    """

    name: ClassVar[str] = "gaps"
    below: float = 0.9

    def __post_init__(self) -> None:
        check_share("below of the policy gaps", self.below)

    def apply(self, doubts: Doubts) -> Doubts:
        lengths = doubts.draft.lengths.unsqueeze(1)
        column = torch.arange(doubts.draft.tokens.size(1) + 1)
        open_ = (doubts.silence() < self.below) & (column <= lengths) & (lengths > 0)
        return replace(doubts, masks=replace(doubts.masks, gaps=open_))
