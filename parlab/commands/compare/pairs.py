"""One system against the baseline: significance, verdict, differing utterances, ratios of speed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

from parlab.metrics.matched_pairs import MatchedPairs, mapsswe
from parlab.metrics.wer import alignment
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction
from parlab.predictions.rates import RateChange, ratio, search_rtf, verdict

_CHANGES = 50  # most frequent changed words that are listed


@dataclass(frozen=True)
class Significance:
    """Tests of a difference between two systems on utterances with references."""

    wer: RateChange
    cer: RateChange
    mapsswe: MatchedPairs
    verdict: str
    verdict_by_speaker: str | None

    @staticmethod
    def of(a: Prediction, b: Prediction, wer: RateChange, cer: RateChange, margin: float) -> Significance:
        """Test ``b`` against the baseline ``a``; ``margin`` is the absolute WER that may be lost."""
        return Significance(
            wer=wer,
            cer=cer,
            mapsswe=mapsswe(a.references, a.results, b.results),
            verdict=verdict(wer.by_utterance, margin),
            verdict_by_speaker=verdict(wer.by_speaker, margin, "speakers") if wer.by_speaker else None,
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
    def of(a: Prediction, b: Prediction, significance: Significance | None) -> Pair:
        """Compare ``b`` with the baseline ``a``; both were made on the same data."""
        return Pair(
            baseline=a.name,
            other=b.name,
            significance=significance,
            differences=tuple(_differences(a, b)),
            speed_ratio=ratio(b.speed.rtfx, a.speed.rtfx),
            search_time_ratio=ratio(search_rtf(b), search_rtf(a)),
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
