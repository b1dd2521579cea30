"""Error rates of predictions on the same utterances: intervals, differences, and what they allow to say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from parlab.metrics.significance import PairedBootstrap, Replicates, errors_and_lengths
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

MARGIN = 0.005  # absolute WER that may be lost for the verdict "no worse"


@dataclass(frozen=True)
class Rate:
    """A pooled error rate with its 95 % interval over utterances, and over speakers where they are known.

    Attributes:
        low, high: the interval when utterances are drawn, fractions.
        low_by_speaker, high_by_speaker: the interval when whole speakers are drawn.
        speakers: number of speakers.
    """

    counts: ErrorCounts
    low: float
    high: float
    low_by_speaker: float | None = None
    high_by_speaker: float | None = None
    speakers: int | None = None

    def to_json(self) -> dict[str, Json]:
        """Rate, counts and intervals; speakers are left out where they are not known."""
        own = {**vars(self), **self.counts.as_dict()}
        names = ("low", "high", "low_by_speaker", "high_by_speaker", "speakers")
        return {name: own[name] for name in (*self.counts.as_dict(), *names) if own[name] is not None}


@dataclass(frozen=True)
class RateChange:
    """The change of an error rate, drawn by utterances, and by speakers where they are known."""

    by_utterance: PairedBootstrap
    by_speaker: PairedBootstrap | None = None
    speakers: int | None = None

    def to_json(self) -> dict[str, Json]:
        """``by_utterance`` and, where speakers are known, ``by_speaker``."""
        entry: dict[str, Json] = {"by_utterance": dataclasses.asdict(self.by_utterance)}
        if self.by_speaker:
            entry["by_speaker"] = {**dataclasses.asdict(self.by_speaker), "speakers": self.speakers}
        return entry


@dataclass(frozen=True)
class Resampled:
    """The rates of several systems, all drawn together.

    Attributes:
        pooled: the counts of each system, summed over utterances.
        by_speaker, speakers: None where speakers are not known.
    """

    pooled: tuple[ErrorCounts, ...]
    by_utterance: Replicates
    by_speaker: Replicates | None
    speakers: int | None

    @staticmethod
    def of(counts: Sequence[Sequence[ErrorCounts]], speakers: list[str] | None, replicates: int) -> Resampled:
        """Resample the counts of each system in each utterance (n,), and the ``speakers`` (n,)."""
        errors, lengths = zip(*map(errors_and_lengths, counts), strict=True)
        pooled = tuple(ErrorCounts.total_of(each) for each in counts)
        by_utterance = Replicates.of(errors, lengths, replicates=replicates)
        if speakers is None:
            return Resampled(pooled, by_utterance, None, None)
        by_speaker = Replicates.of(errors, lengths, speakers, replicates)
        return Resampled(pooled, by_utterance, by_speaker, len(set(speakers)))

    def rate(self, i: int) -> Rate:
        """The rate of a system."""
        low, high = self.by_speaker.interval(i) if self.by_speaker else (None, None)
        return Rate(self.pooled[i], *self.by_utterance.interval(i), low, high, self.speakers)

    def change(self, a: int, b: int) -> RateChange:
        """From system ``a`` to system ``b``."""
        by_speaker = self.by_speaker.paired(a, b) if self.by_speaker else None
        return RateChange(self.by_utterance.paired(a, b), by_speaker, self.speakers)


def verdict(low: float, high: float, margin: float) -> str:
    """What the 95 % interval of (other - baseline) allows to say."""
    if high < 0:
        return "better"
    if low > 0 and low > margin:
        return f"worse by more than {margin:.2%}"
    if high <= margin:
        return f"no worse than {margin:.2%}"
    return "worse" if low > 0 else f"undecided: it may be worse by up to {high:.2%}"


def speakers_of(p: Prediction) -> list[str] | None:
    """The speaker of each scored utterance, where there is more than one and all are known."""
    names = [r.speaker for r in p.scored if r.speaker]
    return names if len(names) == len(p.scored) and len(set(names)) > 1 else None


def search_rtf(p: Prediction) -> float | None:
    """Seconds of search per second of audio, None where one is not known."""
    return p.speed.per_audio_second("search")


def ratio(a: float | None, b: float | None) -> float | None:
    """``a / b``, None where one is not known or 0."""
    return a / b if a and b else None
