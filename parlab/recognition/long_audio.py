"""Recordings of any length: cut at pauses into pieces that are decoded side by side, times counted from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from parlab.data.audio import audio_seconds, load_audio
from parlab.data.pauses import cut_at_pauses, cut_points, envelope, read_blocks
from parlab.data.utterance import Utterance
from parlab.recognition.waveforms import Audio, samples_of
from parlab.types import Hypothesis, Word

PIECE_SECONDS = 20.0  # where the model has no window of its own


@dataclass(frozen=True)
class LongAudio:
    """What is done with long recordings.

    Attributes:
        on: cut recordings longer than a piece at pauses, and join the results; else they fail.
        piece_seconds: longest piece, seconds; None is the model's window, or 20 s.
    """

    on: bool = False
    piece_seconds: float | None = None

    def longest(self, window: float | None) -> float:
        """Seconds of the longest piece for a model's ``window`` (s, or None)."""
        longest = self.piece_seconds or window or PIECE_SECONDS
        return min(longest, window or longest)

    def pieces(self, recordings: Sequence[Utterance], window: float | None) -> list[Utterance]:
        """The utterances that are decoded in place of ``recordings``."""
        return cut_at_pauses(recordings, self.longest(window)) if self.on else list(recordings)


@dataclass(frozen=True)
class RecordingPiece:
    """A part of a recording, read when it is its turn: from ``start`` to ``end`` seconds of a file or an array."""

    audio: str | Path | tuple[np.ndarray, int]
    start: float
    end: float
    sample_rate: int

    def read(self) -> tuple[np.ndarray, int]:
        """The samples of the piece, and their rate."""
        if isinstance(self.audio, tuple):
            samples, rate = self.audio
            return samples[round(self.start * rate) : round(self.end * rate)], rate
        wave = load_audio(self.audio, self.sample_rate, self.start, self.end - self.start)
        return wave.numpy(), self.sample_rate


def cut_recording(audio: Audio, longest: float, sample_rate: int) -> list[RecordingPiece]:
    """Cut one recording at pauses into pieces of at most ``longest`` seconds.

    Args:
        sample_rate: at which files are read.

    Raises:
        UserError: the audio cannot be read.
    """
    whole: str | Path | tuple[np.ndarray, int]
    if isinstance(audio, (str, Path)):
        whole, duration = audio, audio_seconds(audio)
        cuts = cut_points(envelope(read_blocks(audio, 0.0, None)), longest)
    else:
        samples, rate = samples_of(audio, sample_rate)
        whole, duration = (samples, rate), len(samples) / rate
        cuts = cut_points(envelope([(samples, rate)]), longest)
    return [RecordingPiece(whole, a, b, sample_rate) for a, b in pairwise([0.0, *cuts, duration])]


def shifted(hypothesis: Hypothesis, seconds: float) -> Hypothesis:
    """The hypothesis of a piece that starts at ``seconds``, with times counted from its recording's start."""
    return replace(
        hypothesis,
        token_times=tuple((round(a + seconds, 3), round(b + seconds, 3)) for a, b in hypothesis.token_times),
        words=tuple(_word_later(word, seconds) for word in hypothesis.words),
        times=tuple((round(a + seconds, 3), round(b + seconds, 3), text) for a, b, text in hypothesis.times),
    )


def _word_later(word: Word, seconds: float) -> Word:
    if word.start is None or word.end is None:
        return word
    return replace(word, start=round(word.start + seconds, 3), end=round(word.end + seconds, 3))
