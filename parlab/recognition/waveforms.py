"""Audio as Python users have it, files and arrays, as waveforms at a model's rate."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np
import torch
from torch import Tensor

from parlab.data.audio import check_waveform, load_audio, resample
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel

Samples = np.ndarray | Tensor
Audio = str | Path | Samples | tuple[Samples, int] | BinaryIO | Mapping[str, Any]
"""A path, samples at the model's rate, samples with their rate, an open file, or an entry of a Hugging Face data set."""

_LOUDEST = 8.0  # floats far beyond [-1, 1] are integers that nobody scaled


def is_single(audio: Audio | Iterable[Audio]) -> TypeGuard[Audio]:
    """Whether one recording was given, and not several; a pair of paths is several."""
    if isinstance(audio, tuple):
        return len(audio) == 2 and isinstance(audio[1], (int, np.integer)) and not isinstance(audio[0], (str, Path))
    return isinstance(audio, (str, Path, np.ndarray, Tensor, Mapping)) or hasattr(audio, "read")


def name_of(audio: Audio, index: int) -> str:
    """The id of a recording: its file's name without ending, or its index."""
    if isinstance(audio, Mapping):
        audio = audio.get("path") or ""
    return Path(audio).stem if isinstance(audio, (str, Path)) and str(audio) else str(index)


def read_waveform(audio: Audio, model: HybridModel) -> Tensor:
    """One recording as a waveform (samples,) at the model's rate.

    Raises:
        UserError: the audio is unusable, or longer than the model's window.
    """
    rate = model.sample_rate
    if isinstance(audio, (str, Path)):
        wave = load_audio(audio, rate, min_samples=model.min_samples)
    else:
        samples, own_rate = samples_of(audio, rate)
        wave = check_waveform(resample(samples, own_rate, rate), "an array", rate, model.min_samples)
    longest = model.longest_seconds
    if longest is not None and len(wave) > round(longest * rate):
        raise UserError(
            f"the audio is {len(wave) / rate:.0f} s long, expected at most the {longest:.0f} s of this model's window; "
            "use transcribe_long"
        )
    return wave


def samples_of(audio: Any, rate: int) -> tuple[np.ndarray, int]:
    """What is no path as mono samples (samples,) and their rate.

    Args:
        rate: of samples that come without one.

    Raises:
        UserError: it is no audio.
    """
    if isinstance(audio, (np.ndarray, Tensor)):
        return mono(audio), rate
    if isinstance(audio, tuple) and len(audio) == 2 and isinstance(audio[0], (np.ndarray, Tensor)):
        return mono(audio[0]), _rate(audio[1])
    if hasattr(audio, "read"):
        return _read(audio)
    if isinstance(audio, Mapping) and audio.get("array") is not None:
        return mono(np.asarray(audio["array"])), _rate(audio.get("sampling_rate"))
    if isinstance(audio, Mapping) and isinstance(audio.get("bytes"), bytes):
        return _read(io.BytesIO(audio["bytes"]))
    if isinstance(audio, Mapping) and isinstance(audio.get("path"), (str, Path)):
        wave = load_audio(audio["path"], rate)
        return wave.numpy(), rate
    raise UserError(
        f"the audio is a {type(audio).__name__}, expected a path, an array, (array, rate), an open file, or a dictionary "
        "with array and sampling_rate; convert it"
    )


def _rate(rate: Any) -> int:
    if not isinstance(rate, (int, np.integer)) or rate <= 0:
        raise UserError(f"the rate of the audio is {rate!r}, expected samples per second as 16000; give it")
    return int(rate)


def _read(file: BinaryIO) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise UserError(
            f"the open file cannot be decoded as audio ({str(error)[:120]}), expected wav, flac, ogg or opus; convert it"
        ) from error
    return samples.mean(axis=1), int(rate)


def mono(samples: Samples) -> np.ndarray:
    """Samples, (samples,) or (samples, channels), as mono float32; signed integers are scaled to [-1, 1].

    Raises:
        UserError: they have another shape or type, or are floats that nobody scaled.
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
    signed = np.issubdtype(array.dtype, np.signedinteger)
    if not signed and not np.issubdtype(array.dtype, np.floating):
        raise UserError(
            f"the audio is an array of {array.dtype}, expected floats from -1 to 1 or signed integers; convert it"
        )
    one_channel = array.mean(axis=1) if array.ndim == 2 else array
    scaled = (one_channel * (1.0 / (np.iinfo(array.dtype).max + 1) if signed else 1.0)).astype(np.float32)
    peak = float(np.abs(scaled).max(initial=0.0))
    if np.isfinite(peak) and peak > _LOUDEST:
        raise UserError(
            f"the audio has floats up to {peak:.4g}, expected -1 to 1; divide integers by their largest value"
        )
    return scaled
