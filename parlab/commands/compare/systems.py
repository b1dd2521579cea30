"""One system of a comparison: its error rates with intervals, its speed and its work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parlab.metrics.significance import bootstrap_interval, errors_and_lengths
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.files import Json
from parlab.predictions.metrics import Named, Speed
from parlab.predictions.prediction import Prediction

_SPEED = ("rtfx", "search_seconds", "encode_seconds", "latency_p50", "latency_p90")


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

    @staticmethod
    def of(counts: Sequence[ErrorCounts], speakers: list[str] | None, replicates: int) -> Rate | None:
        """The rate of utterances (n,) with their speakers (n,); None for no utterances."""
        if not counts:
            return None
        errors, lengths = errors_and_lengths(counts)
        pooled = sum(counts[1:], counts[0])
        low, high = bootstrap_interval(errors, lengths, replicates=replicates)
        if speakers is None:
            return Rate(pooled, low, high)
        by_speaker = bootstrap_interval(errors, lengths, speakers, replicates)
        return Rate(pooled, low, high, *by_speaker, len(set(speakers)))

    def to_json(self) -> dict[str, Json]:
        """Rate, counts and intervals; speakers are left out where they are not known."""
        own = {**vars(self), **self.counts.as_dict()}
        names = ("low", "high", "low_by_speaker", "high_by_speaker", "speakers")
        return {name: own[name] for name in (*self.counts.as_dict(), *names) if own[name] is not None}


@dataclass(frozen=True)
class System:
    """A prediction in a comparison.

    Attributes:
        utterances: number of utterances.
        wer, cer: None without references.
        speed: None where nothing was timed.
        masked_share: masked tokens per draft token.
        passes, steps: passes and steps of the attention decoder.
        failed: number of utterances that could not be decoded.
    """

    name: str
    decoder: Named
    utterances: int
    wer: Rate | None
    cer: Rate | None
    speed: Speed | None
    masked_share: float
    passes: float
    steps: float
    failed: int

    @staticmethod
    def of(p: Prediction, replicates: int) -> System:
        """Compute the intervals of a prediction with ``replicates`` bootstrap replicates."""
        speakers = speakers_of(p)
        counts = p.metrics.counts
        return System(
            name=p.name,
            decoder=p.metrics.decoder,
            utterances=len(p.records),
            wer=Rate.of(p.word_counts, speakers, replicates),
            cer=Rate.of(p.char_counts, speakers, replicates),
            speed=p.metrics.speed,
            masked_share=p.masked_share,
            passes=counts.get("decoder_passes", 0),
            steps=counts.get("decoder_steps", p.metrics.par.decoder_steps),
            failed=len(p.metrics.failed),
        )

    def to_json(self) -> dict[str, Json]:
        """The system's entry of ``compare --json``; what is not known is left out."""
        speed = {name: value for name in _SPEED if (value := getattr(self.speed, name, None)) is not None}
        entry: dict[str, Json] = {
            **vars(self),
            "decoder": dict(vars(self.decoder)),
            "wer": self.wer.to_json() if self.wer else None,
            "cer": self.cer.to_json() if self.cer else None,
            "speed": speed if self.speed else None,
        }
        return {name: value for name, value in entry.items() if value is not None}


def speakers_of(p: Prediction) -> list[str] | None:
    """The speaker of each scored utterance, where there is more than one and all are known."""
    names = [r.speaker for r in p.scored if r.speaker]
    return names if len(names) == len(p.scored) and len(set(names)) > 1 else None
