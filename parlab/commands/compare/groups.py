"""Error rates of all systems by speaker, or by the length of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parlab.errors import UserError, nearest
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.files import Json
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction

GROUPINGS = ("speaker", "duration")
_EDGES = (2.0, 5.0, 10.0, 20.0, 30.0)  # seconds
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Group:
    """Utterances of a speaker or of a range of lengths.

    Attributes:
        utterances, words: of the group, words of its references.
        wer: of each system, pooled over the group.
        wrong: of each system, utterances with an error.
    """

    name: str
    utterances: int
    words: int
    wer: tuple[ErrorCounts, ...]
    wrong: tuple[int, ...]

    def to_json(self) -> dict[str, Json]:
        """The group's entry of ``compare --json``."""
        rates: list[Json] = [
            {**counts.as_dict(), "utterances_with_errors": wrong}
            for counts, wrong in zip(self.wer, self.wrong, strict=True)
        ]
        return {"name": self.name, "utterances": self.utterances, "words": self.words, "wer": rates}


def check_grouping(by: str | None) -> None:
    """Refuse what no table can be made by.

    Raises:
        UserError: naming the choices.
    """
    if by is not None and by not in GROUPINGS:
        raise UserError(f"by is '{by}', expected {' or '.join(GROUPINGS)}{nearest(by, GROUPINGS)}")


def groups_of(predictions: Sequence[Prediction], by: str) -> tuple[Group, ...]:
    """The groups of predictions on the same utterances, which have a reference; a last group ``all`` has all of them.

    Args:
        by: ``"speaker"`` or ``"duration"``; utterances of which it is not known are a group of their own.
    """
    scored = predictions[0].scored
    members: dict[tuple[float, str], list[int]] = {}
    for i, record in enumerate(scored):
        members.setdefault(_group(record, by), []).append(i)
    named = [(name, members[order, name]) for order, name in sorted(members)]
    return tuple(_pooled(name, index, predictions) for name, index in [*named, ("all", list(range(len(scored))))])


def _group(record: UtteranceRecord, by: str) -> tuple[float, str]:
    """The place of a record's group in the order of groups, and the group's name."""
    if by == "speaker":
        return (0.0, record.speaker) if record.speaker else (1.0, _UNKNOWN)
    if record.duration is None:
        return float("inf"), _UNKNOWN
    below = 0.0
    for edge in _EDGES:
        if record.duration < edge:
            return below, f"{below:g} to {edge:g} s"
        below = edge
    return below, f"{below:g} s and more"


def _pooled(name: str, index: Sequence[int], predictions: Sequence[Prediction]) -> Group:
    counts = [[p.word_counts[i] for i in index] for p in predictions]
    return Group(
        name,
        len(index),
        sum(c.total for c in counts[0]),
        tuple(map(ErrorCounts.total_of, counts)),
        tuple(sum(c.errors > 0 for c in own) for own in counts),
    )
