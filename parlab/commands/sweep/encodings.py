"""Encoder and CTC outputs of a data set, computed once and shared by all points of a sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parlab.data.sources import Utterance
from parlab.decode.prompts import Prompting
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.recognition.prediction import Loaded

GIB = 2**30


@dataclass(frozen=True)
class EncodedBatch:
    """``states`` (B, T, D), ``frames`` (B,), ``log_probs`` (B, T, V) of a batch, and what they belong to."""

    utterances: list[Utterance]
    durations: list[float]
    states: Tensor
    frames: Tensor
    log_probs: Tensor | None


class Encodings:
    """Encoded batches, in memory up to ``memory_gib``, memory-mapped below ``folder`` up to ``disk_gib``.

    Raises:
        UserError: both bounds are full.
    """

    def __init__(self, folder: Path, memory_gib: float, disk_gib: float):
        self.folder, self.memory, self.disk = folder, memory_gib * GIB, disk_gib * GIB
        self.held = self.mapped = 0
        self.batches: list[EncodedBatch] = []
        self.failed: list[tuple[str, str]] = []

    @torch.inference_mode()
    def add(self, model: HybridModel, batch: Loaded, device: torch.device, prompting: Prompting) -> None:
        """Encode a loaded batch and keep its outputs."""
        self.failed += batch.failed
        if not batch.waves:
            return
        lengths = torch.tensor([len(w) for w in batch.waves], device=device)
        speech = torch.nn.utils.rnn.pad_sequence(batch.waves, batch_first=True).to(device)
        states, frames = model.encode(speech, lengths, prompting.for_encoder(model, len(batch.waves)))
        log_probs = model.ctc_log_probs(states) if model.ctc is not None else None
        durations = [len(w) / model.sample_rate for w in batch.waves]
        kept = [self._keep(x) if x is not None else None for x in (states, log_probs)]
        assert kept[0] is not None
        self.batches.append(EncodedBatch(batch.utterances, durations, kept[0], frames.cpu(), kept[1]))

    def _keep(self, values: Tensor) -> Tensor:
        values = values.float().cpu()
        size = values.numel() * 4
        if self.held + size <= self.memory:
            self.held += size
            return values
        if self.mapped + size > self.disk:
            raise UserError(
                f"the encoder outputs need more than {self.memory / GIB:.1f} GiB of memory and {self.disk / GIB:.1f} GiB of "
                "disk; raise memory_gib or disk_gib, or limit the data"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.mapped}.f32"
        held = np.memmap(path, dtype=np.float32, mode="w+", shape=tuple(values.shape))
        held[:] = values.numpy()
        self.mapped += size
        return torch.from_numpy(held)

    def on(self, device: torch.device) -> Iterator[EncodedBatch]:
        """The batches, each moved to the device when it is needed."""
        for b in self.batches:
            log_probs = None if b.log_probs is None else b.log_probs.to(device)
            yield EncodedBatch(b.utterances, b.durations, b.states.to(device), b.frames.to(device), log_probs)

    def close(self) -> None:
        """Remove the mapped files."""
        self.batches.clear()
        for path in self.folder.glob("*.f32") if self.folder.is_dir() else ():
            path.unlink()


def sample_of(utterances: Sequence[Utterance], size: int, seed: int) -> list[Utterance]:
    """A stated sample for timing: drawn once with a seed, in a fixed order."""
    import random

    chosen = random.Random(seed).sample(list(utterances), min(size, len(utterances)))
    return sorted(chosen, key=lambda u: u.id)
