"""Kaldi's log-mel filter bank (``compute-fbank-feats`` without dither), which WeNet and FireRed read, and its statistics."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.features import zero_padding

_LOWEST, _PREEMPHASIS = 20.0, 0.97  # Hz; Kaldi's defaults
_SCALE = 2.0**15  # Kaldi reads 16-bit integers


@dataclass(frozen=True)
class FbankOptions:
    """Kaldi's options by their names; lengths are in milliseconds."""

    num_mel_bins: int = 80
    frame_length: float = 25.0
    frame_shift: float = 10.0
    sample_rate: int = 16000
    window: str = "povey"


class KaldiFbank(nn.Module):
    """Log-mel features of whole frames (``snip-edges``), the same in any batch. No entry in the state dict."""

    batch_invariant: ClassVar[bool] = True

    def __init__(self, options: FbankOptions = FbankOptions()):
        super().__init__()
        self.sample_rate, self.n_mels = options.sample_rate, options.num_mel_bins
        self.win_length = int(options.sample_rate * options.frame_length / 1000)
        self.hop_length = int(options.sample_rate * options.frame_shift / 1000)
        self.n_fft = 1 << (self.win_length - 1).bit_length()
        self.register_buffer("window", _window(options.window, self.win_length), persistent=False)
        filters = mel_filters(options.num_mel_bins, self.n_fft, options.sample_rate)
        self.register_buffer("filters", filters, persistent=False)

    window: Tensor
    filters: Tensor

    def output_size(self) -> int:
        return self.n_mels

    def frames(self, samples: Any) -> Any:
        """Features of that many samples (a tensor or an integer)."""
        return (samples - self.win_length) // self.hop_length + 1

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples) and ``lengths`` (B,) to features (B, frames, n_mels) and frame counts (B,); padding is 0."""
        with torch.autocast(speech.device.type, enabled=False):
            x = (speech.float() * _SCALE).unfold(1, self.win_length, self.hop_length)
            x = x - x.mean(2, keepdim=True)
            x = x - _PREEMPHASIS * torch.cat([x[..., :1], x[..., :-1]], 2)
            power = torch.fft.rfft(x * self.window, self.n_fft).abs().square()
            features = (power @ self.filters).clamp(min=torch.finfo(torch.float32).eps).log()
            frames = self.frames(lengths).clamp(min=0)
            return zero_padding(features, frames), frames


def _window(name: str, size: int) -> Tensor:
    """Kaldi's windows, which are symmetric."""
    hann = torch.hann_window(size, periodic=False)
    windows = {
        "povey": hann.pow(0.85),
        "hanning": hann,
        "hamming": torch.hamming_window(size, periodic=False),
        "rectangular": torch.ones(size),
    }
    if name not in windows:
        raise UserError(f"the config names the window '{name}', expected one of {', '.join(windows)}; correct it")
    return windows[name]


def mel_filters(bands: int, n_fft: int, sample_rate: int) -> Tensor:
    """Triangles on Kaldi's mel scale from 20 Hz to half the sample rate: (n_fft / 2 + 1, bands), float32."""

    def mel(frequency: Tensor) -> Tensor:
        return 1127.0 * (1.0 + frequency / 700.0).log()

    edges = mel(torch.tensor([_LOWEST, sample_rate / 2], dtype=torch.float64))
    points = torch.linspace(float(edges[0]), float(edges[1]), bands + 2, dtype=torch.float64)
    bins = mel(torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft).unsqueeze(1)
    rising = (bins - points[:-2]) / (points[1:-1] - points[:-2])
    falling = (points[2:] - bins) / (points[2:] - points[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    filters[-1] = 0.0  # Kaldi leaves out the last bin
    return filters.float()


class GlobalCMVN(nn.Module):
    """Subtracts ``mean`` (n_mels,), multiplies by ``istd`` (n_mels,)."""

    def __init__(self, mean: Tensor, istd: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("istd", istd)

    mean: Tensor
    istd: Tensor

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise ``x`` (B, frames, n_mels); padding becomes 0."""
        return zero_padding((x - self.mean) * self.istd, lengths), lengths


def read_cmvn(path: Path, bands: int) -> GlobalCMVN:
    """Sums of a training's features, as JSON (``mean_stat``, ``var_stat``, ``frame_num``) or as Kaldi's matrix, text or binary.

    Raises:
        UserError: it is none of these, or has another number of bands.
    """
    try:
        data = path.read_bytes()
        if (start := data.find(b"\0B", 0, 256)) >= 0:
            return statistics(*_binary(data[start + 2 :]), bands)
        text = data.decode("utf-8")
        if text.lstrip().startswith("{"):
            entries = json.loads(text)
            sums, squares, count = entries["mean_stat"], entries["var_stat"], entries["frame_num"]
        else:
            opening, *numbers, closing = text.split()
            size = (len(numbers) - 2) // 2
            if (opening, closing) != ("[", "]"):
                raise ValueError("no brackets")
            sums, count, squares = numbers[:size], numbers[size], numbers[size + 1 : -1]
        return statistics([float(x) for x in sums], [float(x) for x in squares], float(count), bands)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError, struct.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(
            f"{path} holds no statistics of {bands} bands ({reason}), expected WeNet's JSON or Kaldi's matrix; copy it again"
        ) from error


def _binary(data: bytes) -> tuple[list[float], list[float], float]:
    """Sums, sums of squares and count of Kaldi's binary matrix (2, bands + 1): a type, its sizes, its rows."""
    kind, rows, columns = struct.unpack("<3sxixi", data[:13])
    types = {b"FM ": "<f4", b"DM ": "<f8"}
    if kind not in types or rows != 2 or columns < 2:
        raise ValueError(f"a matrix {kind!r} of {rows} rows")
    numbers = np.frombuffer(data, types[kind], rows * columns, 13).reshape(rows, columns).astype(np.float64)
    return numbers[0, :-1].tolist(), numbers[1, :-1].tolist(), float(numbers[0, -1])


def statistics(sums: list[float], squares: list[float], count: float, bands: int) -> GlobalCMVN:
    """The normalisation by sums and sums of squares over ``count`` frames.

    Raises:
        ValueError: another number of bands.
    """
    if not len(sums) == len(squares) == bands:
        raise ValueError(f"{len(sums)} sums and {len(squares)} squares")
    means = [x / count for x in sums]
    variances = [max(x / count - m * m, 1e-20) for x, m in zip(squares, means, strict=True)]
    return GlobalCMVN(torch.tensor(means), torch.tensor([1.0 / math.sqrt(v) for v in variances]))
