"""The interface of masking policies: which draft tokens are doubted, and where a token may be missing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.confidence.naming import plugin, plugins
from parlab.decode.draft import Draft
from parlab.decode.masking import Masks, mask_below
from parlab.errors import UserError

ROOM = "parlab.decode.policies"


@dataclass(frozen=True)
class Doubts:
    """What policies look at, and what they have masked so far; on the host.

    Attributes:
        draft: B drafts of U tokens, with the confidences of the measure.
        silence: gives (B, U + 1) how sure CTC is that nothing is said before each token and after the last one: 1 where no
            frame lies between two tokens.
        masks: so far; at first the tokens below the threshold.
    """

    draft: Draft
    silence: Callable[[], Tensor]
    masks: Masks

    @staticmethod
    def below(threshold: float, draft: Draft, silence: Callable[[], Tensor]) -> Doubts:
        """The tokens whose confidence is below the threshold are masked."""
        return Doubts(draft, silence, Masks(mask_below(draft, threshold)))

    @property
    def inside(self) -> Tensor:
        """True (B, U) where a token is none of the padding."""
        return torch.arange(self.draft.tokens.size(1)) < self.draft.lengths.unsqueeze(1)

    def with_tokens(self, masked: Tensor) -> Doubts:
        """With other masked tokens (B, U)."""
        return replace(self, masks=replace(self.masks, tokens=masked & self.inside))


class Policy(ABC):
    """A frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    @abstractmethod
    def apply(self, doubts: Doubts) -> Doubts:
        """Mask more or less; an utterance's masks depend on no other utterance."""


@cache
def find_policies(text: str) -> tuple[Policy, ...]:
    """The policies that ``text`` names, ``+`` between them, as ``budget:share=0.1+gaps``: applied from left to right.

    Raises:
        UserError: there is none of that name, or not with these options.
    """
    return tuple(plugin(ROOM, Policy, part) for part in text.split("+"))  # type: ignore[type-abstract]


def policy_names() -> list[str]:
    """The names of all policies."""
    return list(plugins(ROOM))


def check_share(what: str, value: float) -> None:
    """Refuse a share or probability that is not from 0 to 1.

    Raises:
        UserError: naming the option.
    """
    if not 0.0 <= value <= 1.0:
        raise UserError(f"the option {what} is {value}, expected a number from 0 to 1; correct it")
