"""Texts while they are filled: drafts with fills in place of their segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from parlab.decode.fills import Fill
from parlab.decode.segments import Segments
from parlab.types import Hypothesis


class Place(NamedTuple):
    """The draft tokens of a segment: utterance, first token, and the one after the last."""

    owner: int
    start: int
    end: int


def places(segments: Segments) -> list[Place]:
    """Where segments are."""
    columns = (segments.owner, segments.start, segments.end)
    return [Place(*numbers) for numbers in zip(*(column.tolist() for column in columns), strict=True)]


def drafted_fill(drafts: Sequence[Hypothesis], place: Place) -> Fill:
    """The draft's own tokens in a place."""
    draft, inside = drafts[place.owner], slice(place.start, place.end)
    return Fill(draft.tokens[inside], draft.token_confidence[inside], 0.0, False, 0)


def joined(drafts: Sequence[Hypothesis], place: Place, fills: Mapping[Place, Fill]) -> Fill:
    """What stands in a new segment: the fills of older ones in it, in order, and the draft's tokens between them."""
    inside = {
        old: fill
        for old, fill in fills.items()
        if old.owner == place.owner and place.start <= old.start and old.end <= place.end
    }
    tokens: list[int] = []
    confidence: list[float] = []
    draft = place.start
    for old, fill in [*inside.items(), (Place(place.owner, place.end, place.end), Fill((), (), 0.0, False, 0))]:
        between = drafted_fill(drafts, Place(place.owner, draft, old.start))
        tokens += [*between.tokens, *fill.tokens]
        confidence += [*between.confidence, *fill.confidence]
        draft = old.end
    return Fill(tuple(tokens), tuple(confidence), 0.0, any(fill.forced for fill in inside.values()), 0)


class Spot(NamedTuple):
    """The text that a segment stands in, and where it begins and ends there."""

    text: list[int]
    start: int
    end: int

    def around(self, both: bool) -> tuple[list[int], list[int]]:
        """The text before the segment, and with ``both`` that after it."""
        return self.text[: self.start], self.text[self.end :] if both else []


@dataclass(frozen=True)
class Written:
    """What is written at a time.

    Attributes:
        texts: of B utterances.
        starts: where each segment starts in its text.
        kept: of each utterance, the runs of draft tokens that are in no segment, each with where it starts in the text.
    """

    texts: list[list[int]]
    starts: list[int]
    kept: list[list[tuple[range, int]]]

    @staticmethod
    def of(drafts: Sequence[Hypothesis], segments: Sequence[Place], fills: Sequence[Fill]) -> Written:
        """The drafts with the fills in place of the segments, which are in order."""
        texts: list[list[int]] = [[] for _ in drafts]
        kept: list[list[tuple[range, int]]] = [[] for _ in drafts]
        starts: list[int] = []
        done = [0] * len(drafts)
        ends = [Place(i, len(draft.tokens), len(draft.tokens)) for i, draft in enumerate(drafts)]
        for place, fill in [*zip(segments, fills, strict=True), *((end, None) for end in ends)]:
            owner = place.owner
            run = range(done[owner], place.start)
            if run:
                kept[owner].append((run, len(texts[owner])))
                texts[owner] += drafts[owner].tokens[run.start : run.stop]
            done[owner] = place.end
            if fill is not None:
                starts.append(len(texts[owner]))
                texts[owner] += fill.tokens
        return Written(texts, starts, kept)
