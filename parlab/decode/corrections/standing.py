"""Where a word that the decoder writes stands in the draft: told by the letters that both have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parlab.decode.corrections.words import Word

_MOST = 3  # draft words that one word may take the place of
# What a match costs, in letters that differ.
_TAIL = 0.35  # each letter that a word does not reach: later tokens may write it
_INSIDE = 1.5  # ending inside a draft word
_AGAIN = 1.5  # each word just before that stands for nothing either
_SKIPPED = 0.6  # each letter of a draft word that is left out


@dataclass(frozen=True)
class Standing:
    """A way to take a written word in.

    Attributes:
        cost: letters that differ.
        words: draft words that are done with.
        end: letter of the draft that the written word ends at.
        stands: the word that follows is the written one already.
        inside: the last draft word goes on from ``end``.
    """

    cost: float
    words: int
    end: int
    stands: bool = False
    inside: bool = False


def distances(written: str, letters: str) -> list[int]:
    """The edit distance of ``written`` to each of the first 0, 1, ... n of n ``letters``."""
    row = list(range(len(letters) + 1))
    for i, letter in enumerate(written, 1):
        left, row[0], diagonal = i, i, i - 1
        for j, other in enumerate(letters, 1):
            diagonal, left = row[j], min(left + 1, row[j] + 1, diagonal + (letter != other))
            row[j] = left
    return row


@dataclass(frozen=True)
class Candidate:
    """A word that the decoder writes.

    Attributes:
        letters: all or the first.
        start: letter of the draft that it begins at.
        least: draft words that it takes the place of at least.
        added: words just before it that stand for nothing in the draft.
    """

    letters: str
    start: int
    least: int
    added: int = 0


def best_standing(candidate: Candidate, letters: str, following: Sequence[Word]) -> Standing:
    """The cheapest way to take a word in; of equal ones that with fewer draft words, and with more of their letters.

    Args:
        letters: the draft's.
        following: the words of the text from where it is written on.
    """
    written, start, least, size = candidate.letters, candidate.start, candidate.least, len(candidate.letters)
    ends = [word.end for word in following[:_MOST]]
    row = distances(written, letters[start : max([start, *ends])])
    ways = [Standing(size + _AGAIN * candidate.added, 0, start)] if least == 0 else []
    for count, end in enumerate(ends, 1):
        if count >= least:
            span = end - start
            cost = row[span] if span <= size else min(row[span], row[size] + _TAIL * (span - size))
            ways.append(Standing(cost, count, end))
    if ends and least <= 1:
        # A draft word in which several are run together: only its first letters are taken.
        inside = range(max(1, size - 2), min(size + 3, ends[0] - start - 3))
        ways += [Standing(row[span] + _INSIDE, 1, start + span, inside=True) for span in inside]
    if least == 0:
        for count, word in enumerate(following[1 : _MOST + 1], 1):
            if written and written == word.letters:
                ways.append(Standing(_SKIPPED * (word.start - start), count, word.start, stands=True))
    return min(ways, key=lambda way: (way.cost, not way.stands, way.inside, way.words, -way.end))
