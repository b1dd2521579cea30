"""The interface of all decoders: a frozen set of options with one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch

from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.text.s2t import TRANSCRIPTION
from parlab.types import Hypothesis

NOTHING_SAID = Hypothesis((), 0.0, counts={"tokens": 0})  # of an utterance without an encoder frame


class Decoder(ABC):
    """A frozen dataclass whose fields are its options; it keeps no state between calls."""

    name: ClassVar[str]

    def changed(self) -> dict[str, Any]:
        """The options that are not the decoder's defaults."""
        own = fields(self)  # type: ignore[arg-type]
        return {f.name: getattr(self, f.name) for f in own if getattr(self, f.name) != f.default}

    @abstractmethod
    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """Decode B utterances.

        Args:
            model: gives the decoder's rows and the special tokens.
            encoded: the batch.

        Returns:
            one hypothesis per utterance, in order; ``text`` and ``id`` are left to the caller.

        Raises:
            UserError: the model lacks a part that the decoder needs.
        """

    def prepare(self, model: HybridModel, device: torch.device) -> None:  # noqa: B027 (most decoders read nothing)
        """Read files that decoding needs beside the model (a language model), before the first batch.

        Raises:
            UserError: it cannot be read, or does not fit the model.
        """


def check_transcription(model: HybridModel, prompts: Sequence[tuple[int, ...]], what: str) -> None:
    """Refuse what a CTC draft cannot do: an S2T model's CTC head only transcribes, and writes no times.

    Args:
        what: the decoder or option that uses the CTC head.

    Raises:
        UserError: a prompt asks for another task, or for times.
    """
    if model.s2t is None or model.s2t.encoder_prompt:
        return
    for prompt in prompts:
        other = [task for task in model.s2t.tasks_of(prompt) if task != TRANSCRIPTION]
        if other:
            raise UserError(
                f"the task is {other[0]}, but {what} uses the CTC head, which only transcribes (<asr>); decode with ar and "
                "ctc_weight 0"
            )
        if model.s2t.notimestamps is not None and model.s2t.notimestamps not in prompt:
            raise UserError(
                f"timestamps were asked for, but {what} cannot write times; decode with ar and ctc_weight 0, or leave them out"
            )
