"""The waveforms of a batch in one padded tensor: one file descriptor from worker to parent, one copy to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True, eq=False)
class PaddedWaves(Sequence[Tensor]):
    """Waveforms of B utterances in host memory; as a sequence, each is (samples,), without its padding.

    Attributes:
        samples: (B, S) float32, zeros after the end of each.
        lengths: samples of each utterance.
    """

    samples: Tensor
    lengths: tuple[int, ...]

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
        """Samples (B, S) and lengths (B,) on a device; the host does not wait for a CUDA device."""
        lengths = torch.tensor(self.lengths, dtype=torch.long)
        if device.type != "cuda":
            return self.samples.to(device), lengths.to(device)
        samples = self.samples if self.samples.is_pinned() else self.samples.pin_memory()
        return samples.to(device, non_blocking=True), lengths.pin_memory().to(device, non_blocking=True)
