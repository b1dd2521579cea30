"""A bound on the work: at most a share of an utterance's tokens is masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from parlab.decode.policies.policy import Doubts, Policy, check_share


@dataclass(frozen=True)
class Budget(Policy):
    """Of the masked tokens of an utterance the least sure ones stay masked, at most a share of its draft, rounded up.

    With the threshold 1 exactly the least sure tokens are masked. Of two equally sure tokens the first one is.

    Attributes:
        share: of an utterance's draft tokens, 0 to 1.
    """

    name: ClassVar[str] = "budget"
    share: float = 0.1

    def __post_init__(self) -> None:
        check_share("share of the policy budget", self.share)

    def apply(self, doubts: Doubts) -> Doubts:
        masked = doubts.masks.tokens
        confidence = doubts.draft.confidence.masked_fill(~masked, float("inf"))
        order = confidence.argsort(dim=1, stable=True)
        rank = torch.empty_like(order).scatter_(1, order, torch.arange(order.size(1)).expand_as(order))
        most = torch.ceil(doubts.draft.lengths.double() * self.share - 1e-9).long()  # 0.1 * 30 is a little above 3
        return doubts.with_tokens(masked & (rank < most.unsqueeze(1)))
