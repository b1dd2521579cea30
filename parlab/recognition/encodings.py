"""Encoder and CTC outputs of a data set, computed once and shared by many settings of decoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.recognition.batches import LoadedBatch
from parlab.recognition.finite import NO_NUMBERS, find_usable
from parlab.recognition.recognizer import Recognizer
from parlab.types import Failure

GIB = 2**30


@dataclass(frozen=True)
class EncodedUtterances:
    """An encoded batch with the utterances that it holds, and their durations (s)."""

    utterances: list[Utterance]
    durations: list[float]
    encoded: Encoded


class Encodings:
    """Encoded batches, in memory up to ``memory_gib``, memory-mapped below ``folder`` up to ``disk_gib``.

    Raises:
        UserError: both bounds are full.
    """

    def __init__(self, folder: Path, memory_gib: float, disk_gib: float):
        self.folder, self.memory, self.disk = folder, memory_gib * GIB, disk_gib * GIB
        self.in_memory = self.on_disk = 0
        self.batches: list[EncodedUtterances] = []
        self.failed: list[Failure] = []

    def add(self, recognizer: Recognizer, batch: LoadedBatch) -> None:
        """Encode a loaded batch and keep its outputs."""
        self.failed += batch.failed
        if not batch.waves:
            return
        encoded = recognizer.encode(batch.waves)
        usable = find_usable(encoded)
        self.failed += [Failure(u.id, NO_NUMBERS) for i, u in enumerate(batch.utterances) if i not in usable]
        if not usable:
            return
        encoded = encoded if len(usable) == len(encoded) else encoded.select(usable)
        durations = [recognizer.seconds(batch.waves[i]) for i in usable]
        ctc = None if encoded.ctc_log_probs is None else self._keep(encoded.ctc_log_probs)
        drafted = None if encoded.drafted is None else encoded.drafted.to(torch.device("cpu"))
        states, frames = self._keep(encoded.states), encoded.frames.cpu()
        kept = replace(encoded, states=states, frames=frames, ctc_log_probs=ctc, drafted=drafted)
        self.batches.append(EncodedUtterances([batch.utterances[i] for i in usable], durations, kept))

    def _keep(self, values: Tensor) -> Tensor:
        values = values.float().cpu()
        size = values.numel() * 4
        if self.in_memory + size <= self.memory:
            self.in_memory += size
            return values
        if self.on_disk + size > self.disk:
            raise UserError(
                f"the encoder outputs need more than {self.memory / GIB:.1f} GiB of memory and {self.disk / GIB:.1f} GiB of "
                "disk; raise memory_gib or disk_gib, or limit the data"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.on_disk}.f32"
        mapped = np.memmap(path, dtype=np.float32, mode="w+", shape=tuple(values.shape))
        mapped[:] = values.numpy()
        self.on_disk += size
        return torch.from_numpy(mapped)

    def on(self, device: torch.device) -> Iterator[EncodedUtterances]:
        """The batches, each moved to the device when it is needed."""
        for batch in self.batches:
            yield replace(batch, encoded=batch.encoded.to(device))

    def close(self) -> None:
        """Remove the mapped files."""
        self.batches.clear()
        for path in self.folder.glob("*.f32") if self.folder.is_dir() else ():
            path.unlink()
