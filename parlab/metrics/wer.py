"""Word and character error rates, pooled over a corpus, with kaldialign's alignment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

GAP = "\0"  # no token, in an alignment; no word of a text


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one or many utterances; ``total`` counts the reference's words or characters."""

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    total: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference token, a fraction; words where the reference is empty count as if it had one."""
        return self.errors / max(self.total, 1)  # never infinite: JSON has no word for it

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.total + other.total,
        )

    def as_dict(self) -> dict[str, float]:
        """Rate and counts, as ``metrics.json`` has them."""
        return {
            "rate": self.rate,
            "errors": self.errors,
            "substitutions": self.substitutions,
            "insertions": self.insertions,
            "deletions": self.deletions,
            "total": self.total,
        }

    @staticmethod
    def total_of(counts: Sequence[ErrorCounts]) -> ErrorCounts:
        """The sum over utterances."""
        names = ("substitutions", "insertions", "deletions", "total")
        return ErrorCounts(*(sum(getattr(c, name) for c in counts) for name in names))

    @staticmethod
    def from_dict(entry: Mapping[str, float]) -> ErrorCounts:
        """The counts of an entry of ``metrics.json``."""
        return ErrorCounts(*(int(entry[name]) for name in ("substitutions", "insertions", "deletions", "total")))


def count_errors(reference: Sequence[str], hypothesis: Sequence[str], merge_compounds: bool = False) -> ErrorCounts:
    """Errors of one token sequence against another.

    Args:
        merge_compounds: adjacent words that together spell a word of the other text are no errors.
    """
    if reference == hypothesis:  # most utterances of a good model
        return ErrorCounts(total=len(reference))
    from kaldialign import edit_distance

    if merge_compounds:
        found = edit_distance(reference, hypothesis, merge_compounds=True)
        return ErrorCounts(int(found["sub"]), int(found["ins"]), int(found["del"]), len(reference))
    same = _common_prefix(reference, hypothesis)  # changes no count: before it ends, the best path is the diagonal
    found = edit_distance(reference[same:], hypothesis[same:])
    return ErrorCounts(int(found["sub"]), int(found["ins"]), int(found["del"]), len(reference))


def _common_prefix(a: Sequence[str], b: Sequence[str]) -> int:
    """The number of tokens that both start with."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def word_errors(reference: str, hypothesis: str, merge_compounds: bool = False) -> ErrorCounts:
    """Word errors of one utterance."""
    return count_errors(reference.split(), hypothesis.split(), merge_compounds)


def char_errors(reference: str, hypothesis: str) -> ErrorCounts:
    """Character errors of one utterance; words are separated by one space, which counts."""
    return count_errors(" ".join(reference.split()), " ".join(hypothesis.split()))


def corpus_errors(
    references: Iterable[str], hypotheses: Iterable[str], merge_compounds: bool = False
) -> dict[str, ErrorCounts]:
    """Pooled ``wer`` and ``cer`` of a corpus: long utterances count for more; lengths must be equal."""
    words, characters = ErrorCounts(), ErrorCounts()
    for reference, hypothesis in zip(references, hypotheses, strict=True):
        words += word_errors(reference, hypothesis, merge_compounds)
        characters += char_errors(reference, hypothesis)
    return {"wer": words, "cer": characters}


def alignment(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str]]:
    """Aligned pairs of tokens; ``GAP`` stands for nothing."""
    if reference == hypothesis:
        return [(str(token), str(token)) for token in reference]
    from kaldialign import align

    return [(str(a), str(b)) for a, b in align(list(reference), list(hypothesis), GAP)]
