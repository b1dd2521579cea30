"""What a decoder is given: the encoder's states of a batch, CTC's posteriors, and a prompt for each utterance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.heads.drafted import Drafted
from parlab.text.tokenizer import Tokenizer
from parlab.transfer import numbers_on

Prompts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Encoded:
    """A batch of B encoded utterances.

    Attributes:
        states: (B, T, D) encoder output, padded at the right.
        frames: (B,) encoder frames of each utterance.
        ctc_log_probs: (B, T, V) log-posteriors of the CTC head, float32; None where the model has none.
        prompts: B tuples of the token ids that stand before the first decoded token, none of them empty.
        drafted: what a draft head says, where the model has one.
        tokenizer: of the decoder's tokens, where it is known: phrases are spelled with it.

    Raises:
        ValueError: another number of prompts than utterances, or an empty prompt.
    """

    states: Tensor
    frames: Tensor
    ctc_log_probs: Tensor | None
    prompts: Prompts
    drafted: Drafted | None = None
    tokenizer: Tokenizer | None = None

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.states) or not all(self.prompts):
            raise ValueError(
                f"got {len(self.prompts)} prompts for {len(self.states)} utterances, expected one non-empty prompt each"
            )

    def __len__(self) -> int:
        return len(self.states)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.states.device

    @property
    def posteriors(self) -> Tensor:
        """The log-posteriors (B, T, V), for a decoder that cannot do without them.

        Raises:
            UserError: the model has no CTC head.
        """
        if self.ctc_log_probs is None:
            raise UserError(NO_CTC)
        return self.ctc_log_probs

    def to(self, device: torch.device) -> Encoded:
        """The batch on a device."""
        ctc = None if self.ctc_log_probs is None else self.ctc_log_probs.to(device)
        drafted = None if self.drafted is None else self.drafted.to(device)
        return Encoded(self.states.to(device), self.frames.to(device), ctc, self.prompts, drafted, self.tokenizer)

    def select(self, utterances: Sequence[int]) -> Encoded:
        """The given utterances of the batch, in the given order."""
        [index] = numbers_on(self.device, utterances)
        ctc = None if self.ctc_log_probs is None else self.ctc_log_probs[index]
        prompts = tuple(self.prompts[i] for i in utterances)
        drafted = None if self.drafted is None else self.drafted.select(index)
        return Encoded(self.states[index], self.frames[index], ctc, prompts, drafted, self.tokenizer)


NO_CTC = (
    "this model has no CTC head, expected a hybrid CTC/attention model; decode it with ar and ctc_weight 0 (--decoder ar "
    "--decoder.ctc_weight 0)"
)
