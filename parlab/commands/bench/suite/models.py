"""Random models of a suite in a precision, and its batches."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from parlab.commands.bench.cases import Case
from parlab.commands.bench.sizes import random_recognizer
from parlab.model.encoded import Encoded
from parlab.options.devices import weights_dtype
from parlab.recognition.recognizer import Recognizer


class Models:
    """Makes each random model once; only the last size is kept, so that large ones do not fill the device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.size: str | None = None
        self.made: dict[torch.dtype | None, Recognizer] = {}

    def get(self, size: str, precision: str) -> Recognizer:
        """The model of a size with its weights in a precision."""
        if size != self.size:
            self.made.clear()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self.size, self.made[None] = size, random_recognizer(size, self.device)
        dtype = weights_dtype(precision)
        if dtype not in self.made:
            model = copy.deepcopy(self.made[None].model).to_device(self.device, dtype)
            self.made[dtype] = replace(self.made[None], model=model)
        return self.made[dtype]


def repeated(case: Case, batch: int) -> Case:
    """A case of one utterance as a batch of ``batch`` copies: large vocabularies are made once."""
    encoded = case.encoded
    many = Encoded(
        encoded.states.expand(batch, -1, -1).contiguous(),
        encoded.frames.expand(batch).contiguous(),
        encoded.posteriors.expand(batch, -1, -1).contiguous(),
        encoded.prompts * batch,
    )
    speech = case.speech.expand(batch, -1).contiguous()
    return replace(case, speech=speech, lengths=case.lengths.expand(batch).contiguous(), encoded=many)
