"""Audio files to mono float32 waveforms at the model's rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from parlab.errors import UserError

_MOST_FRAMES = 2**40  # libsndfile gives 2^63 - 1 for a length that the header leaves open
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au")


# 6 parameters: the part of a file is three of them, as in a manifest; the limits are the model's.
def load_audio(
    path: str | Path,
    sample_rate: int,
    start: float = 0.0,
    duration: float | None = None,
    min_samples: int = 2,
    max_seconds: float | None = None,
) -> Tensor:
    """Read ``path``, mix down to one channel, resample; returns (samples,) in [-1, 1].

    Args:
        sample_rate: samples per second of the result.
        start, duration: the part to read, in seconds; None reads to the end.
        min_samples: fewest samples (at ``sample_rate``) that are usable.
        max_seconds: longest audio that is accepted.

    Raises:
        UserError: the file is missing, empty, truncated, in no known format, too short, too long, or not finite.
    """
    import soundfile

    file = Path(path)
    _check_file(file, path)
    try:
        with soundfile.SoundFile(str(file)) as sound:
            rate, total = sound.samplerate, sound.frames
            if total > _MOST_FRAMES:
                raise UserError(
                    f"the audio file {path} does not say how long it is (it was written to a pipe), expected a length "
                    "in its header; convert it again to a file"
                )
            first = round(start * rate)
            count = total - first if duration is None else min(round(duration * rate), total - first)
            if max_seconds is not None and count > max_seconds * rate:
                raise UserError(
                    f"the audio file {path} is {count / rate:.0f} s long, expected at most {max_seconds:.0f} s; "
                    "cut it, raise --max_seconds, or let --long_audio true cut it at pauses"
                )
            sound.seek(max(min(first, total), 0))
            samples = sound.read(max(count, 0), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:  # TypeError: raw samples, no header
        reason = (str(error).splitlines() or ["no reason given"])[0][:120]
        raise UserError(
            f"the audio file {path} cannot be decoded ({reason}), expected wav, flac, ogg or opus; copy or convert it "
            "again"
        ) from error
    if len(samples) < count:
        raise UserError(
            f"the audio file {path} is truncated: it has {len(samples)} of {count} samples that its header promises; "
            "copy it again"
        )
    wave = resample(samples.mean(axis=1), rate, sample_rate)
    return check_waveform(wave, str(path), sample_rate, min_samples)


def _check_file(file: Path, name: str | Path) -> None:
    """Refuse a file that is missing, empty, or shorter than its header says; errors call it ``name``."""
    if not file.is_file():
        raise UserError(f"the audio file {name} is missing, expected a file of a known format; correct the path")
    if file.stat().st_size == 0:
        raise UserError(f"the audio file {name} is empty (0 bytes), expected audio; copy it again")
    if missing := _riff_missing(file):
        raise UserError(
            f"the audio file {name} is truncated: {missing} bytes are missing that its header promises; copy it again"
        )


def audio_seconds(path: str | Path) -> float:
    """Length of a file in seconds, from its header.

    Raises:
        UserError: the file is missing or unreadable, or its header does not know.
    """
    import soundfile

    if not Path(path).is_file():
        raise UserError(f"the audio file {path} is missing, expected a file of a known format; correct the path")
    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise UserError(
            f"the audio file {path} cannot be read ({str(error)[:120]}), expected audio; copy it again or leave it out"
        ) from error
    if info.frames > _MOST_FRAMES:
        raise UserError(f"the audio file {path} does not say how long it is; convert it again to a file")
    return info.frames / info.samplerate


def _riff_missing(file: Path) -> int:
    """Bytes that a WAV file's header promises and that are not there; libsndfile passes over such a cut in silence."""
    with file.open("rb") as stream:
        head = stream.read(12)
    if len(head) < 12 or head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0
    promised = int.from_bytes(head[4:8], "little") + 8
    if promised >= 0x7FFF0000:  # a writer to a pipe cannot know the length and puts about the largest number
        return 0
    missing = promised - file.stat().st_size
    return missing if missing > 1 else 0  # some writers count a padding byte that they do not write


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Resample (samples,) with the SoX resampler."""
    if rate == wanted or len(samples) == 0:
        return samples
    import soxr

    return soxr.resample(samples, rate, wanted)


def check_waveform(samples: np.ndarray, name: str, sample_rate: int, min_samples: int = 2) -> Tensor:
    """Refuse samples that no model can take; silence is fine."""
    if not np.isfinite(samples).all():
        raise UserError(f"the audio of {name} holds values that are not finite (NaN or infinite); record it again")
    if len(samples) < min_samples:
        raise UserError(
            f"the audio of {name} is too short: it has {len(samples)} samples at {sample_rate} Hz, expected at least "
            f"{min_samples} ({min_samples / sample_rate:.3g} s); leave it out"
        )
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
