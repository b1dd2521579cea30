"""SpeechBrain's features and its convolutions before the encoder, the same for an utterance alone and in any batch."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, leaky_relu

from parlab.model.features import padding_mask, zero_padding

_AMIN, _TOP_DB = 1e-10, 80.0


class DecibelMel(nn.Module):
    """``speechbrain.lobes.features.Fbank``: mel energies in decibels, at most 80 below the utterance's loudest. No state.

    Args:
        n_mels: bands.
        n_fft: of the spectrum.
        sample_rate: in Hz.
        window: length and hop in milliseconds.
        band: lowest and highest frequency in Hz.
    """

    batch_invariant: ClassVar[bool] = True

    def __init__(
        self, n_mels: int, n_fft: int, sample_rate: int, window: tuple[float, float], band: tuple[float, float]
    ):
        super().__init__()
        self.sample_rate, self.n_mels, self.n_fft = sample_rate, n_mels, n_fft
        self.win_length, self.hop_length = (round(sample_rate / 1000 * x) for x in window)
        self.register_buffer("window", torch.hamming_window(self.win_length), persistent=False)
        self.register_buffer("filters", mel_filters(n_mels, n_fft, sample_rate, band), persistent=False)

    window: Tensor
    filters: Tensor

    def output_size(self) -> int:
        return self.n_mels

    def frames(self, samples: Any) -> Any:
        """Features of that many samples (a tensor or an integer)."""
        return samples // self.hop_length + 1

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples) and ``lengths`` (B,) to features (B, frames, n_mels) and frame counts (B,); padding is 0."""
        with torch.autocast(speech.device.type, enabled=False):
            inside = ~padding_mask(lengths, speech.size(1))
            spectrum = torch.stft(
                speech.float() * inside,
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window,
                pad_mode="constant",
                return_complex=True,
            )
            x = 10.0 * (spectrum.abs().square().transpose(1, 2) @ self.filters).clamp(min=_AMIN).log10()
            frames = self.frames(lengths)
            padding = padding_mask(frames, x.size(1)).unsqueeze(2)
            loudest = x.masked_fill(padding, 10.0 * math.log10(_AMIN)).amax((1, 2), keepdim=True)
            return zero_padding(torch.maximum(x, loudest - _TOP_DB), frames), frames


def mel_filters(n_mels: int, n_fft: int, sample_rate: int, band: tuple[float, float]) -> Tensor:
    """SpeechBrain's triangles, as wide on both sides as the band below: (n_fft / 2 + 1, n_mels)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in band)
    hz = 700 * (10 ** (torch.linspace(low, high, n_mels + 2) / 2595) - 1)
    slope = (torch.linspace(0, sample_rate // 2, n_fft // 2 + 1).unsqueeze(1) - hz[1:-1]) / (hz[1:] - hz[:-1])[:-1]
    return torch.minimum(slope + 1.0, 1.0 - slope).clamp(min=0.0)


class GlobalNorm(nn.Module):
    """``InputNormalization`` of kind ``global``: buffers ``mean`` and ``std`` (n_mels,)."""

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float().clamp(min=1e-10))

    mean: Tensor
    std: Tensor

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise ``x`` (B, frames, n_mels); padding becomes 0."""
        return zero_padding((x - self.mean) / self.std, lengths), lengths


class _Block(nn.Module):
    """One layer of ``ConvolutionFrontEnd``: convolution over bands and time, reflected at the edges, norm, LeakyReLU."""

    def __init__(self, channels: tuple[int, int], kernel: int, stride: int, bands: int):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(channels[0], channels[1], kernel, stride)
        self.norm = nn.LayerNorm([self.size(bands), channels[1]])

    def size(self, frames: Any) -> Any:
        """What the convolution makes of ``frames`` (a tensor or an integer), of bands too."""
        return (frames + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """(B, F, bands, C) of ``frames`` (B,) to (B, F', bands', C')."""
        edge = self.kernel // 2
        x = _reflected(x, frames, edge, 1)
        x = _reflected(x, torch.full_like(frames, x.size(2)), edge, 2)
        x = self.conv(x.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)  # channels, bands, time, as the weights have them
        return leaky_relu(self.norm(x))


def _reflected(x: Tensor, lengths: Tensor, edge: int, dim: int) -> Tensor:
    """``x`` with ``edge`` more at each end of a dimension, reflected at each utterance's own two ends."""
    index = torch.arange(-edge, x.size(dim) + edge, device=x.device).abs().unsqueeze(0)
    last = (lengths - 1).unsqueeze(1)
    index = torch.where(index > last, (2 * last - index).clamp(min=0), index)  # (B, size + 2 edge)
    shape = [len(x), 1, 1, 1]
    shape[dim] = index.size(1)
    sizes = list(x.shape)
    sizes[dim] = index.size(1)
    return x.gather(dim, index.view(shape).expand(sizes))


class ConvolutionFrontEnd(nn.Module):
    """SpeechBrain's layers, and the linear layer between them and the encoder.

    Args:
        bands: n_mels.
        width: D.
        layers: channels, kernel and stride of each.
        shares: that are dropped in training, after each layer and after the linear one.
    """

    def __init__(
        self,
        bands: int,
        width: int,
        layers: tuple[tuple[int, int, int], ...],
        shares: tuple[float, float] = (0.0, 0.0),
    ):
        super().__init__()
        self.shares = shares
        before = 1
        self.blocks = nn.ModuleList()
        for channels, kernel, stride in layers:
            block = _Block((before, channels), kernel, stride, bands)
            self.blocks.append(block)
            before, bands = channels, block.size(bands)
        self.out = nn.Linear(bands * before, width)

    def subsampled_lengths(self, frames: Any) -> Any:
        """Encoder frames of ``frames`` features (a tensor or an integer)."""
        for block in self.blocks:
            assert isinstance(block, _Block)
            frames = block.size(frames)
        return frames

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """(B, F, n_mels) of ``frames`` (B,) to (B, T, D)."""
        x = x.unsqueeze(3)
        for block in self.blocks:
            assert isinstance(block, _Block)
            x = dropout(block(x, frames), self.shares[0], self.training)
            frames = block.size(frames)
        return dropout(self.out(x.flatten(2)), self.shares[1], self.training)
