"""What a draft head says of a batch, with the rule that spells it in the decoder's tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.text.spelling import Spelling


@dataclass(frozen=True)
class Drafted:
    """The output of a draft head for B utterances.

    Attributes:
        log_probs: (B, T', V') log-posteriors, float32; the blank is id 0.
        frames: (B,) frames of each utterance.
        stride: encoder frames that are one frame of the head.
        spelling: from the head's tokens to the decoder's, word by word.
    """

    log_probs: Tensor
    frames: Tensor
    stride: int
    spelling: Spelling

    def to(self, device: torch.device) -> Drafted:
        """The same on a device."""
        return replace(self, log_probs=self.log_probs.to(device), frames=self.frames.to(device))

    def select(self, index: Tensor) -> Drafted:
        """The utterances ``index`` (n,)."""
        return replace(self, log_probs=self.log_probs[index], frames=self.frames[index])
