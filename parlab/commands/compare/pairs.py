"""One system against the baseline: significance, verdict, differing utterances, ratios of speed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from parlab.commands.compare.systems import speakers_of
from parlab.metrics.significance import MatchedPairs, PairedBootstrap, errors_and_lengths, mapsswe, paired_bootstrap
from parlab.metrics.wer import ErrorCounts, alignment
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

_CHANGES = 50  # most frequent changed words that are listed


@dataclass(frozen=True)
class RateChange:
    """The change of an error rate, drawn by utterances, and by speakers where they are known."""

    by_utterance: PairedBootstrap
    by_speaker: PairedBootstrap | None = None
    speakers: int | None = None

    @staticmethod
    def of(
        a: Sequence[ErrorCounts], b: Sequence[ErrorCounts], speakers: list[str] | None, replicates: int
    ) -> RateChange:
        """From the baseline's errors per utterance (n,) to those of the other system (n,); ``speakers`` likewise."""
        errors_a, lengths = errors_and_lengths(a)
        errors_b, _ = errors_and_lengths(b)
        by_utterance = paired_bootstrap(errors_a, errors_b, lengths, replicates=replicates)
        if speakers is None:
            return RateChange(by_utterance)
        by_speaker = paired_bootstrap(errors_a, errors_b, lengths, speakers, replicates)
        return RateChange(by_utterance, by_speaker, len(set(speakers)))

    def to_json(self) -> dict[str, Json]:
        """``by_utterance`` and, where speakers are known, ``by_speaker``."""
        entry: dict[str, Json] = {"by_utterance": dataclasses.asdict(self.by_utterance)}
        if self.by_speaker:
            entry["by_speaker"] = {**dataclasses.asdict(self.by_speaker), "speakers": self.speakers}
        return entry


@dataclass(frozen=True)
class Significance:
    """Tests of a difference between two systems on utterances with references."""

    wer: RateChange
    cer: RateChange
    mapsswe: MatchedPairs
    verdict: str
    verdict_by_speaker: str | None

    @staticmethod
    def of(a: Prediction, b: Prediction, margin: float, replicates: int) -> Significance:
        """Test ``b`` against the baseline ``a``; ``margin`` is the absolute WER that may be lost."""
        speakers = speakers_of(a)
        wer = RateChange.of(a.word_counts, b.word_counts, speakers, replicates)
        references = [a.reference(r) for r in a.scored]
        texts_a, texts_b = ([p.normalized(r.text) for r in p.scored] for p in (a, b))
        return Significance(
            wer=wer,
            cer=RateChange.of(a.char_counts, b.char_counts, speakers, replicates),
            mapsswe=mapsswe(references, texts_a, texts_b),
            verdict=verdict(wer.by_utterance.low, wer.by_utterance.high, margin),
            verdict_by_speaker=verdict(wer.by_speaker.low, wer.by_speaker.high, margin) if wer.by_speaker else None,
        )

    def to_json(self) -> dict[str, Json]:
        """The tests as keys of the pair's entry."""
        entry: dict[str, Json] = {
            **self.wer.to_json(),
            **{f"cer_{name}": value for name, value in self.cer.to_json().items()},
            "mapsswe": dataclasses.asdict(self.mapsswe),
            "verdict": self.verdict,
        }
        return entry if self.verdict_by_speaker is None else {**entry, "verdict_by_speaker": self.verdict_by_speaker}


@dataclass(frozen=True)
class Difference:
    """An utterance whose text differs: changed words as (baseline's, other's), and errors where they are known."""

    id: str
    ref: str | None
    baseline: str
    other: str
    changes: tuple[tuple[str, str], ...]
    baseline_errors: int | None = None
    other_errors: int | None = None

    @property
    def error_change(self) -> int:
        """Errors of the other system less those of the baseline; 0 where they are not known."""
        return (self.other_errors or 0) - (self.baseline_errors or 0)

    def to_json(self) -> dict[str, Json]:
        """The entry; errors are left out where they are not known."""
        entry = {name: value for name, value in vars(self).items() if value is not None or name == "ref"}
        return {**entry, "changes": [list(change) for change in self.changes]}


@dataclass(frozen=True)
class Pair:
    """A system against the baseline.

    Attributes:
        significance: None without references.
        differences: utterances whose text differs, those that changed most errors first.
        speed_ratio: the other system's RTFx in units of the baseline's; None where one was not timed.
        search_time_ratio: the same of the seconds of search per second of audio.
    """

    baseline: str
    other: str
    significance: Significance | None
    differences: tuple[Difference, ...]
    speed_ratio: float | None
    search_time_ratio: float | None

    @staticmethod
    def of(a: Prediction, b: Prediction, margin: float, replicates: int) -> Pair:
        """Compare ``b`` with the baseline ``a``; both were made on the same data."""
        return Pair(
            baseline=a.name,
            other=b.name,
            significance=Significance.of(a, b, margin, replicates) if a.scored else None,
            differences=tuple(_differences(a, b)),
            speed_ratio=_ratio(b.speed.rtfx, a.speed.rtfx),
            search_time_ratio=_ratio(_search_rtf(b), _search_rtf(a)),
        )

    def to_json(self) -> dict[str, Json]:
        """The pair's entry of ``compare --json``; what is not known is left out."""
        changes = Counter(change for difference in self.differences for change in difference.changes)
        entry: dict[str, Json] = {
            "baseline": self.baseline,
            "other": self.other,
            **(self.significance.to_json() if self.significance else {}),
            "differences": [difference.to_json() for difference in self.differences],
            "changes": [{"baseline": x, "other": y, "count": n} for (x, y), n in changes.most_common(_CHANGES)],
            "speed_ratio": self.speed_ratio,
            "search_time_ratio": self.search_time_ratio,
        }
        return {name: value for name, value in entry.items() if value is not None}


def verdict(low: float, high: float, margin: float) -> str:
    """What the 95 % interval of (other - baseline) allows to say."""
    if high < 0:
        return "better"
    if low > 0 and low > margin:
        return f"worse by more than {margin:.2%}"
    if high <= margin:
        return f"no worse than {margin:.2%}"
    return "worse" if low > 0 else f"undecided: it may be worse by up to {high:.2%}"


def _differences(a: Prediction, b: Prediction) -> list[Difference]:
    """Utterances whose text differs, those that changed most errors first."""
    errors: dict[str, tuple[int, int]] = {}
    for record, x, y in zip(a.scored, a.word_counts, b.word_counts, strict=True):
        errors[record.id] = (x.errors, y.errors)
    found = []
    for of_a, of_b in zip(a.records, b.records, strict=True):
        if of_a.text != of_b.text:
            words = alignment(of_a.text.split(), of_b.text.split())
            changes = tuple((x, y) for x, y in words if x != y)
            counts = errors.get(of_a.id, (None, None))
            found.append(Difference(of_a.id, of_a.ref, of_a.text, of_b.text, changes, *counts))
    return sorted(found, key=lambda d: (-abs(d.error_change), d.id))


def _search_rtf(p: Prediction) -> float | None:
    """Seconds of search per second of audio, None where one is not known."""
    return _ratio(p.speed.search_seconds, p.speed.audio_seconds)


def _ratio(a: float | None, b: float | None) -> float | None:
    return a / b if a and b else None
