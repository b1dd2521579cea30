"""Waveform to normalised log-mel features, the same for an utterance alone and in any batch.

ESPnet pads a batch first and reflects at the padded end, so the last frames of a short utterance
depend on its neighbours. Here each utterance is reflected at its own end (issue 6633).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.families import espnet


def parse_rate(rate: int | str) -> int:
    """``16000``, ``"16000"``, ``"16k"`` or ``"16kHz"`` as samples per second."""
    text = str(rate).strip().lower().removesuffix("hz")
    return int(float(text[:-1]) * 1000) if text.endswith("k") else int(float(text))


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """True at padding: ``lengths`` (B,) to (B, size)."""
    return torch.arange(size, device=lengths.device) >= lengths.unsqueeze(1)


def zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """``x`` (B, frames, n_mels) with 0 after the ``lengths`` (B,)."""
    return x.masked_fill(padding_mask(lengths, x.size(1)).unsqueeze(2), 0.0)


@dataclass(frozen=True)
class LogMelOptions:
    """ESPnet's ``frontend_conf``, by its names and with its defaults.

    Raises:
        UserError: a size is no whole number above 0, there is no such window, or a part of the front end is switched off
            that is always on here.
    """

    fs: int | str = 16000
    n_fft: int = 512
    win_length: int | None = None
    hop_length: int = 128
    window: str | None = "hann"
    center: bool = True
    normalized: bool = False
    onesided: bool = True
    n_mels: int = 80
    fmin: int | None = None
    fmax: int | None = None
    htk: bool = False
    frontend_conf: Any = None  # speech enhancement, refused by build_model when switched on
    apply_stft: bool = True

    def __post_init__(self) -> None:
        for name in ("n_fft", "win_length", "hop_length", "n_mels"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UserError(
                    f"the front end's {name} is {value!r}, expected a whole number above 0; correct config.yaml"
                )
        if (self.win_length or 0) > self.n_fft:
            raise UserError(
                f"the front end's win_length is {self.win_length}, expected at most n_fft, {self.n_fft}; correct config.yaml"
            )
        if self.window is not None and not hasattr(torch, f"{self.window}_window"):
            raise UserError(
                f"the front end's window is {self.window!r}, expected 'hann' or another of torch's; correct it"
            )
        try:
            rate = parse_rate(self.fs)
        except (ValueError, OverflowError):
            rate = 0
        if rate < 1:
            raise UserError(
                f"the front end's fs is {self.fs!r}, expected samples per second, as 16000; correct config.yaml"
            )
        if not (self.center and self.onesided and self.apply_stft):
            raise UserError(
                "the front end has center, onesided or apply_stft switched off; only the default is supported"
            )


def reflect(speech: Tensor, lengths: Tensor, size: int) -> Tensor:
    """``speech`` (B, samples) with ``size`` samples more at each end, reflected at each utterance's own two ends."""
    index = torch.arange(-size, speech.size(1) + size, device=speech.device).abs().unsqueeze(0)
    last = (lengths - 1).unsqueeze(1)
    return speech.gather(1, torch.where(index > last, (2 * last - index).clamp(min=0), index))


class LogMelFrontend(nn.Module):
    """ESPnet's default front end (STFT, power, log-mel) without its need of ``torch_complex``.

    State-dict key: ``logmel.melmat``.
    """

    batch_invariant: ClassVar[bool] = True

    def __init__(self, options: LogMelOptions = LogMelOptions()):
        super().__init__()
        self.sample_rate = parse_rate(options.fs)
        self.n_fft, self.hop_length, self.n_mels = options.n_fft, options.hop_length, options.n_mels
        self.win_length = options.win_length or options.n_fft
        self.window, self.normalized = options.window, options.normalized
        bands = {"n_mels": options.n_mels, "fmin": options.fmin, "fmax": options.fmax, "htk": options.htk}
        self.logmel = espnet.log_mel(fs=self.sample_rate, n_fft=options.n_fft, **bands)

    def output_size(self) -> int:
        return self.n_mels

    def frames(self, samples: Any) -> Any:
        """Features of that many samples (a tensor or an integer)."""
        return (samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop_length + 1

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples) and ``lengths`` (B,) to features (B, frames, n_mels) and frame counts (B,).

        Padding becomes 0. Nothing is read back from the device, so ``speech`` is not cut to the longest utterance.
        """
        with torch.autocast(speech.device.type, enabled=False):
            window = None
            if self.window is not None:
                window = getattr(torch, f"{self.window}_window")(self.win_length, device=speech.device)
            spectrum = torch.stft(
                reflect(speech.float(), lengths, self.n_fft // 2),
                n_fft=self.n_fft,
                hop_length=self.hop_length,
                win_length=self.win_length,
                window=window,
                center=False,
                normalized=self.normalized,
                return_complex=True,
            )
            power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)
            frames = self.frames(lengths)
            features, _ = self.logmel(power)
            return zero_padding(features, frames), frames


class GlobalMVN(nn.Module):
    """Global mean and variance normalisation, ESPnet's buffers ``mean`` and ``std`` (n_mels,).

    ESPnet's own class divides by statistics that it casts in place on the first call; here the buffers
    are float32 from the start and never change.
    """

    def __init__(
        self,
        stats_file: str | Path | None = None,
        norm_means: bool = True,
        norm_vars: bool = True,
        eps: float = 1.0e-20,
        *,
        size: int | None = None,
    ):
        super().__init__()
        self.norm_means, self.norm_vars = norm_means, norm_vars
        if stats_file is not None and Path(stats_file).is_file():
            mean, std = read_stats(Path(stats_file), eps)
        else:  # to be filled from the state dict
            mean, std = torch.zeros(size or 80), torch.ones(size or 80)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    mean: Tensor
    std: Tensor

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise ``x`` (B, frames, n_mels); padding becomes 0."""
        if self.norm_means:
            x = x - self.mean
        if self.norm_vars:
            x = x / self.std
        return zero_padding(x, lengths), lengths


class UtteranceMVN(nn.Module):
    """Mean and variance normalisation of each utterance; no state.

    ESPnet's own class reads the longest length back from the device, and counts the padding in the variance.
    """

    def __init__(self, norm_means: bool = True, norm_vars: bool = False, eps: float = 1.0e-20):
        super().__init__()
        self.norm_means, self.norm_vars, self.eps = norm_means, norm_vars, eps

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise ``x`` (B, frames, n_mels); padding becomes 0."""
        x, count = zero_padding(x, lengths), lengths.view(-1, 1, 1)
        centred = zero_padding(x - x.sum(1, keepdim=True) / count, lengths)
        if self.norm_means:
            x = centred
        if self.norm_vars:
            x = x / (centred.square().sum(1, keepdim=True) / count).sqrt().clamp(min=self.eps)
        return x, lengths


def read_stats(path: Path, eps: float = 1.0e-20) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation from ESPnet's ``feats_stats.npz`` or a Kaldi-like ``.npy``."""
    stats = np.load(path)
    if isinstance(stats, np.ndarray):
        count = stats[0].flatten()[-1]
        mean, square = stats[0, :-1] / count, stats[1, :-1] / count
    else:
        count = stats["count"]
        mean, square = stats["sum"] / count, stats["sum_square"] / count
    std = np.sqrt(np.maximum(square - mean * mean, eps))
    return torch.from_numpy(np.asarray(mean)).float(), torch.from_numpy(np.asarray(std)).float()


def write_stats(path: Path, mean: Tensor, std: Tensor) -> None:
    """Write mean and standard deviation as an ESPnet ``feats_stats.npz`` (with a count of one frame)."""
    m, s = mean.double().cpu().numpy(), std.double().cpu().numpy()
    np.savez(path, count=np.array(1), sum=m, sum_square=s * s + m * m)
