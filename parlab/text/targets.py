"""What a batch of utterances is trained to say, as padded token ids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Targets:
    """Token ids of a batch of B utterances, each row padded with -1.

    Attributes:
        text: (B, L) what the decoder writes; for S2T models with language, task and times.
        text_lengths: (B,) tokens of each text.
        previous: (B, P) text that an S2T model is shown before, or None; a row of padding alone has none.
        ctc_text: (B, C) what CTC learns in an S2T model, or None where that is ``text``; CTC leaves out a row of
            padding alone.
    """

    text: Tensor
    text_lengths: Tensor
    previous: Tensor | None = None
    ctc_text: Tensor | None = None

    def to(self, device: torch.device) -> Targets:
        """The targets on a device."""
        moved = (value if value is None else value.to(device) for value in (self.previous, self.ctc_text))
        return Targets(self.text.to(device), self.text_lengths.to(device), *moved)
