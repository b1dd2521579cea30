"""The waveforms of a batch in one padded tensor: one file descriptor from worker to parent, one copy to the device.

The copy can be made ahead, on a stream of its own, while the device still computes the batch before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from parlab.transfer import numbers_on


@dataclass(frozen=True, eq=False)
class CopyAhead:
    """A batch on its way to a CUDA device.

    Attributes:
        samples: (B, S) on the device.
        lengths: (B,) on the device.
        done: the event that the copy has been made.
    """

    samples: Tensor
    lengths: Tensor
    done: torch.cuda.Event

    def wait(self) -> tuple[Tensor, Tensor]:
        """The tensors, for the stream that computes: the device waits for the copy, the host does not."""
        stream = torch.cuda.current_stream(self.samples.device)
        stream.wait_event(self.done)
        for tensor in (self.samples, self.lengths):
            tensor.record_stream(stream)  # the memory is not used anew before the stream is through
        return self.samples, self.lengths


@dataclass(frozen=True, eq=False)
class PaddedWaves(Sequence[Tensor]):
    """Waveforms of B utterances in host memory; as a sequence, each is (samples,), without its padding.

    Attributes:
        samples: (B, S) float32, zeros after the end of each.
        lengths: samples of each utterance.
        ahead: the copy on the device, where one was ordered.
    """

    samples: Tensor
    lengths: tuple[int, ...]
    ahead: CopyAhead | None = None

    @staticmethod
    def of(waves: Sequence[Tensor]) -> PaddedWaves:
        """Pad waveforms, each (samples,); those that are padded already stay as they are."""
        if isinstance(waves, PaddedWaves):
            return waves
        samples = pad_sequence(list(waves), batch_first=True) if waves else torch.zeros(0, 0)
        return PaddedWaves(samples, tuple(len(wave) for wave in waves))

    def __len__(self) -> int:
        return len(self.lengths)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> PaddedWaves: ...
    def __getitem__(self, index: int | slice) -> Tensor | PaddedWaves:
        if not isinstance(index, slice):
            return self.samples[index, : self.lengths[index]]
        lengths = self.lengths[index]
        return PaddedWaves(self.samples[index, : max(lengths, default=0)], lengths)

    def pin_memory(self) -> PaddedWaves:
        """The same in page-locked memory, from which a CUDA device copies without waiting."""
        return PaddedWaves(self.samples.pin_memory(), self.lengths)

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Samples (B, S) and lengths (B,) on a device; the host does not wait for the copies."""
        if self.ahead is not None and self.ahead.samples.device == device:
            return self.ahead.wait()
        samples = self.samples
        if device.type == "cuda" and not samples.is_pinned():
            samples = samples.pin_memory()
        (lengths,) = numbers_on(device, self.lengths)
        return samples.to(device, non_blocking=True), lengths

    def copied_ahead(self, stream: torch.cuda.Stream) -> PaddedWaves:
        """The same with a copy to the stream's device ordered on it; neither host nor device waits."""
        with torch.cuda.stream(stream):
            samples, lengths = replace(self, ahead=None).on(stream.device)
            return replace(self, ahead=CopyAhead(samples, lengths, stream.record_event()))


class Ahead(Iterable[Any]):
    """Batches of a loader (with a field ``waves``), each copied to a CUDA device as soon as it is loaded.

    Who takes a batch before the one before it is computed, as Lightning does, has copies and computation at the same time.
    Elsewhere the batches stay as they are.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device):
        self.loader, self.device = loader, device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        if self.device.type != "cuda":
            yield from self.loader
            return
        stream = torch.cuda.Stream(self.device)
        for batch in self.loader:
            yield replace(batch, waves=batch.waves.copied_ahead(stream)) if batch.waves else batch
