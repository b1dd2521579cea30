"""Error rates of predictions on the same utterances: intervals, differences, and what they allow to say."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from parlab.metrics.paired import PairedDifference
from parlab.metrics.significance import Replicates, errors_and_lengths
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

MARGIN = 0.005  # absolute WER that may be lost for the verdict "no worse"
FEW_UTTERANCES, FEW_SPEAKERS = 100, 12  # sets with fewer get a warning


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

    by_utterance: PairedDifference
    by_speaker: PairedDifference | None = None
    speakers: int | None = None

    def to_json(self) -> dict[str, Json]:
        """``by_utterance`` and, where speakers are known, ``by_speaker``."""
        entry: dict[str, Json] = {"by_utterance": _finite(self.by_utterance)}
        if self.by_speaker:
            entry["by_speaker"] = {**_finite(self.by_speaker), "speakers": self.speakers}
        return entry


def _finite(change: PairedDifference) -> dict[str, Json]:
    """The numbers of a difference; a bound that is infinite is null, which JSON can say."""
    return {k: v if math.isfinite(v) else None for k, v in dataclasses.asdict(change).items()}


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


def verdict(change: PairedDifference, margin: float, unit: str = "utterances") -> str:
    """What the 95 % interval of (other - baseline) allows to say of so many units, against the ``margin`` that may be lost."""
    low, high, on = change.low, change.high, f"{change.units} {unit}"
    if not change.bounded:
        return f"undecided: {on} are too few for an interval of 95 %, expected at least 6"
    if high < 0:
        return f"better on {on}"
    if low > margin:
        return f"worse by more than {margin:.2%} on {on}"
    if high <= margin:
        return f"no worse than {margin:.2%} on {on}"
    needed = change.units_to_decide(margin)
    would = f"about {needed:,} {unit} like these" if needed else f"more {unit} than can be told"
    if low > 0:
        return f"worse on {on}, by up to {high:.2%}; whether by more than {margin:.2%}, {would} would decide"
    return f"undecided on {on}: it may be worse by up to {high:.2%}, the margin is {margin:.2%}; {would} would decide"


def warnings_of_size(utterances: int, speakers: int | None) -> tuple[str, ...]:
    """What to keep in mind of small sets: fewer than 100 utterances, or than 12 speakers."""
    found = []
    if utterances < FEW_UTTERANCES:
        found.append(
            f"{utterances} utterances with a reference, fewer than {FEW_UTTERANCES}: another set of this kind may well say otherwise"
        )
    if speakers is not None and speakers < FEW_SPEAKERS:
        found.append(
            f"{speakers} speakers, fewer than {FEW_SPEAKERS}: intervals of rates with speakers drawn are too narrow; trust the verdict "
            "with speakers as the unit"
        )
    return tuple(found)


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
