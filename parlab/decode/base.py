"""What every decoder is: a frozen set of options with one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from parlab.decode.prompts import Prompt
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


class Decoder(ABC):
    """A frozen dataclass whose fields are its options; it keeps no state between calls."""

    name: ClassVar[str]

    @abstractmethod
    def decode(
        self,
        model: HybridModel,
        encoder_out: Tensor,
        lengths: Tensor,
        prompt: Prompt = None,
        ctc_log_probs: Tensor | None = None,
    ) -> list[Hypothesis]:
        """Decode B utterances.

        Args:
            model: gives the CTC head, the decoder's rows and the special tokens.
            encoder_out: (B, T, D), padded at the right.
            lengths: (B,) frames of each.
            prompt: ids that stand before the first decoded token: one tuple for all, one tuple per utterance, or
                None for the model's default.
            ctc_log_probs: (B, T, V), where they are already computed.

        Returns:
            one hypothesis per utterance, in order; ``text`` and ``id`` are left to the caller.
        """
