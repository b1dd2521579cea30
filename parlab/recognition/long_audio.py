"""Recordings of any length: cut at pauses into pieces that are decoded side by side, times counted from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parlab.data.pauses import cut_at_pauses
from parlab.data.utterance import Utterance
from parlab.types import Hypothesis

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


def shifted(hypothesis: Hypothesis, seconds: float) -> Hypothesis:
    """The hypothesis of a piece that starts at ``seconds``, with times counted from its recording's start."""
    return replace(
        hypothesis,
        token_times=tuple((round(a + seconds, 3), round(b + seconds, 3)) for a, b in hypothesis.token_times),
        times=tuple((round(a + seconds, 3), round(b + seconds, 3), text) for a, b, text in hypothesis.times),
    )
