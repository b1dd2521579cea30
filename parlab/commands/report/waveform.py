"""The waveform of an utterance and the windows of its masks, as the page's script draws them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parlab.predictions.hypotheses import UtteranceRecord

PARTS = 240  # of a waveform: more than a telephone has room for
LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # one character a part, from silence up
_LONGEST = 600.0  # seconds of a recording that is read for its picture
_SLACK = 0.1  # seconds by which a file's length may differ from its utterance's


def waveform(audio: str | None, duration: float | None) -> str | None:
    """The largest amplitude in each of ``PARTS`` equal parts, as ``LEVELS`` relative to the loudest.

    Args:
        audio: path of the file.
        duration: of the utterance, s. An utterance that is a part of a longer file has no picture: its record does not say
            which part it is.

    Returns:
        None also where the file is no audio, is longer than ten minutes, or holds less than a sample for each part.
    """
    import soundfile

    if not audio or duration is None or duration > _LONGEST:
        return None
    try:
        with Path(audio).open("rb") as content, soundfile.SoundFile(content) as sound:
            if abs(sound.frames / sound.samplerate - duration) > _SLACK:
                return None
            samples = sound.read(dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError, ValueError):
        return None
    if len(samples) < PARTS or not np.isfinite(samples).all():
        return None
    starts = np.arange(PARTS) * len(samples) // PARTS
    loudness = np.maximum.reduceat(np.abs(samples).max(axis=1), starts)
    levels = np.rint((len(LEVELS) - 1) * loudness / max(float(loudness.max()), 1e-9)).astype(int)
    return "".join(LEVELS[level] for level in levels)


def windows(record: UtteranceRecord) -> Iterator[tuple[float, float]]:
    """Start and end in seconds of the speech that each segment stands for; none where times are not known.

    A segment's neighbours are trusted, so its window reaches from the end of the token before it to the start of the one
    after it, or to an end of the utterance.
    """
    times = record.token_times
    if len(times) != len(record.token_text) or record.duration is None:
        return
    shift = 0  # tokens of the result less tokens of the draft, so far
    for s in record.segments:
        first, last = s.start + shift, s.start + shift + len(s.fill)
        start = times[first - 1][1] if first else 0.0
        end = times[last][0] if last < len(times) else record.duration
        yield start, max(start, end)
        shift += len(s.fill) - len(s.draft)
