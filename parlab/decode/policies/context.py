"""Neighbours of masks are masked too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parlab.decode.policies.policy import Doubts, Policy
from parlab.errors import UserError


@dataclass(frozen=True)
class Context(Policy):
    """The tokens beside a masked token are masked too: an error often begins before its least sure token.

    Attributes:
        left, right: how many tokens on each side.
    """

    name: ClassVar[str] = "context"
    left: int = 1
    right: int = 1

    def __post_init__(self) -> None:
        if self.left < 0 or self.right < 0:
            raise UserError(
                f"left is {self.left} and right {self.right} in the policy context, expected numbers of tokens from 0"
            )

    def apply(self, doubts: Doubts) -> Doubts:
        own = doubts.masks.tokens
        grown = own.clone()
        for distance in range(1, min(self.left, own.size(1)) + 1):
            grown[:, :-distance] |= own[:, distance:]
        for distance in range(1, min(self.right, own.size(1)) + 1):
            grown[:, distance:] |= own[:, :-distance]
        return doubts.with_tokens(grown)
