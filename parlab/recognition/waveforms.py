"""Audio as Python users have it, files and arrays, as waveforms at a model's rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from parlab.data.audio import check_waveform, load_audio, resample
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel

Samples = np.ndarray | Tensor
Audio = str | Path | tuple[Samples, int]


def is_single(audio: Audio | Sequence[Audio]) -> TypeGuard[Audio]:
    """Whether one recording was given, and not several; a pair of paths is several."""
    if isinstance(audio, (str, Path)):
        return True
    return isinstance(audio, tuple) and not isinstance(audio[0], (str, Path, tuple))


def read_waveform(audio: Audio, model: HybridModel) -> Tensor:
    """A file, or a pair of samples and rate, as a waveform (samples,) at the model's rate.

    Raises:
        UserError: the audio is unusable, or longer than the window of an S2T model.
    """
    rate = model.sample_rate
    if isinstance(audio, tuple):
        samples = resample(mono(audio[0]), int(audio[1]), rate)
        wave = check_waveform(samples, "an array", rate, model.min_samples)
    else:
        wave = load_audio(audio, rate, min_samples=model.min_samples)
    window = model.window_seconds
    if window is not None and len(wave) > round(window * rate):
        raise UserError(
            f"the audio is {len(wave) / rate:.0f} s long, expected at most the {window:.0f} s of this S2T model's window; "
            "use transcribe_long"
        )
    return wave


def mono(samples: Samples) -> np.ndarray:
    """Samples, (samples,) or (samples, channels), as mono float32; integers are scaled to [-1, 1].

    Raises:
        UserError: they have another shape.
    """
    array = np.asarray(samples.detach().cpu() if isinstance(samples, torch.Tensor) else samples)
    if array.ndim not in (1, 2):
        raise UserError(
            f"the audio is an array of shape {array.shape}, expected (samples,) or (samples, channels); reshape it"
        )
    if array.ndim == 2 and array.shape[0] < array.shape[1]:
        raise UserError(
            f"the audio is an array of shape {array.shape}, expected (samples, channels) with more samples than channels; "
            "transpose it"
        )
    scale = 1.0 / (np.iinfo(array.dtype).max + 1) if np.issubdtype(array.dtype, np.signedinteger) else 1.0
    one_channel = array.mean(axis=1) if array.ndim == 2 else array
    return (one_channel * scale).astype(np.float32)
