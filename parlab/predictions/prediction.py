"""Predictions read back from their folders, for comparing and reporting.

The contract's keys are enough; what else ``predict`` writes (``docs/formats.md``) is used where it is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from parlab.errors import UserError
from parlab.metrics.wer import ErrorCounts, char_errors, word_errors
from parlab.predictions.files import Json
from parlab.predictions.hypotheses import NAME as HYPOTHESES
from parlab.predictions.hypotheses import UtteranceRecord, read_hypotheses
from parlab.predictions.metrics import Metrics, Speed, has_metrics, read_metrics
from parlab.text.normalizer import normalizer

_UNTIMED = Speed()
# Most texts of one prediction are those of another, and most drafts of PAR are greedy's texts.
known_word_errors, _known_char_errors = (lru_cache(maxsize=2**17)(count) for count in (word_errors, char_errors))


@dataclass(frozen=True)
class Prediction:
    """One prediction folder: its metrics and its utterances, sorted by id."""

    folder: Path
    metrics: Metrics
    records: list[UtteranceRecord]
    name: str

    @property
    def decoder(self) -> str:
        """The decoder's name."""
        return self.metrics.decoder.name

    @property
    def options(self) -> dict[str, Json]:
        """The decoder's options."""
        return dict(self.metrics.decoder.options)

    @property
    def speed(self) -> Speed:
        """Figures of speed, all None where nothing was timed."""
        return self.metrics.speed or _UNTIMED

    @cached_property
    def scored(self) -> list[UtteranceRecord]:
        """The utterances that have a reference."""
        return [r for r in self.records if r.ref is not None]

    def normalized(self, text: str) -> str:
        """Text as this prediction's metrics saw it."""
        return normalizer(self.metrics.normalizer.name)(text)

    def reference(self, record: UtteranceRecord) -> str:
        """The normalised reference of a scored utterance."""
        return self.normalized(record.ref or "")

    @cached_property
    def references(self) -> list[str]:
        """The normalised reference of each scored utterance."""
        return [self.reference(r) for r in self.scored]

    @cached_property
    def results(self) -> list[str]:
        """The normalised text of each scored utterance."""
        return [self.normalized(r.text) for r in self.scored]

    @cached_property
    def word_counts(self) -> list[ErrorCounts]:
        """Word errors of each scored utterance."""
        merge = normalizer(self.metrics.normalizer.name).merge_compounds
        return [known_word_errors(a, b, merge) for a, b in zip(self.references, self.results, strict=True)]

    @cached_property
    def char_counts(self) -> list[ErrorCounts]:
        """Character errors of each scored utterance."""
        return list(map(_known_char_errors, self.references, self.results))

    @cached_property
    def words_are_tokens(self) -> bool:
        """Whether each token is a word of its own (token types ``word`` and ``phn``), seen from the texts."""
        long = [r for r in self.records if len(r.token_text) > 1]
        return bool(long) and all(" ".join(r.token_text).split() == r.text.split() for r in long)

    @property
    def masked_share(self) -> float:
        """Masked tokens per draft token."""
        return self.metrics.par.masked_share


def read_prediction(folder: Path, name: str | None = None) -> Prediction:
    """Read a folder that ``predict`` or ``sweep`` wrote.

    Raises:
        UserError: files are missing, broken or incomplete.
    """
    metrics = read_metrics(folder)
    try:
        records = read_hypotheses(folder)
    except OSError as error:
        raise UserError(
            f"{folder} holds no prediction ({HYPOTHESES} is missing or broken); name a folder that `predict --out` wrote"
        ) from error
    if metrics.utterances is not None and metrics.utterances != len(records):
        raise UserError(
            f"{folder}/{HYPOTHESES} holds {len(records)} utterances, expected the {metrics.utterances} of its "
            "metrics.json; predict again"
        )
    return Prediction(folder, metrics, records, name or folder.name or str(folder))


def read_predictions(folders: Sequence[Path]) -> list[Prediction]:
    """Predictions of all folders; names are made unique.

    A folder is a prediction, a sweep (each finished point counts), or a folder of predictions.

    Raises:
        UserError: no folder was named, one was named twice, or one holds no prediction or a broken one.
    """
    if not folders:
        raise UserError("no folder was named, expected folders that `predict` or `sweep` wrote; name one")
    entries: list[Path] = []
    for folder in folders:
        inside = folder / "points" if (folder / "points").is_dir() else folder
        below = [inside] if has_metrics(inside) else []
        if not below and inside.is_dir():  # an interrupted sweep has points without metrics; they are not done
            below = sorted(entry for entry in inside.iterdir() if has_metrics(entry))
        entries += below or [folder]
    known: set[Path] = set()
    for entry in entries:
        if entry.resolve() in known:
            raise UserError(f"{entry} was named twice, expected each prediction once; leave one of the two out")
        known.add(entry.resolve())
    return named_apart([read_prediction(entry) for entry in entries])


def named_apart(found: Sequence[Prediction]) -> list[Prediction]:
    """Names that tell all predictions apart: the folder's, with its parent's, or the whole path."""
    chosen = [str(p.folder) for p in found]
    for names in ([p.name for p in found], [f"{_owner(p.folder)}/{p.name}" for p in found]):
        if len(set(names)) == len(names):
            chosen = names
            break
    return [replace(p, name=name) for p, name in zip(found, chosen, strict=True)]


def _owner(folder: Path) -> str:
    parent = folder.resolve().parent
    return parent.parent.name if parent.name == "points" else parent.name
