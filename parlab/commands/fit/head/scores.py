"""How good a draft is: its word error rate, and whether its confidences say where it is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parlab.decode.draft import Draft
from parlab.metrics.wer import GAP, alignment, char_errors, word_errors
from parlab.text.normalizer import normalizer
from parlab.text.spelling import Spelling

THRESHOLDS = (0.5, 0.9, 0.99)
_BINS = 10


@dataclass(frozen=True)
class DraftWord:
    """A word of a draft with its confidence: the least of its tokens'."""

    text: str
    confidence: float


def draft_words(draft: Draft, spelling: Spelling) -> list[list[DraftWord]]:
    """The words of drafts, which lie on the host."""
    found = []
    for tokens, sure, n in zip(draft.tokens.tolist(), draft.confidence.tolist(), draft.lengths.tolist(), strict=True):
        words = spelling.words(tokens[:n])
        found.append([DraftWord(w.text, min(sure[w.start : w.end])) for w in words])
    return found


@dataclass
class DraftScores:
    """Sums over the development data that one rank has seen; as many numbers on every rank.

    Attributes:
        normalize: of references and drafts. For the confidences each word is normalised alone.
        loss: of labels that are known, summed, and their number.
        errors: wrong words and words, wrong characters and characters.
        bins: of each tenth of confidence the words, the sum of their confidences, and the right ones.
        masked: of each threshold the words below it, and the wrong ones of them; then the same of those that are kept.
    """

    normalize: Callable[[str], str]
    loss: list[float] = field(default_factory=lambda: [0.0] * 2)
    errors: list[float] = field(default_factory=lambda: [0.0] * 4)
    bins: list[float] = field(default_factory=lambda: [0.0] * (3 * _BINS))
    masked: list[float] = field(default_factory=lambda: [0.0] * (4 * len(THRESHOLDS)))

    def add_loss(self, total: float, utterances: int) -> None:
        """Count the summed loss of so many utterances."""
        self.loss[0] += total
        self.loss[1] += utterances

    def add(self, reference: str, words: Sequence[DraftWord]) -> None:
        """Count the draft of an utterance."""
        wanted = self.normalize(reference)
        text = self.normalize(" ".join(word.text for word in words))
        by_word, by_character = word_errors(wanted, text), char_errors(wanted, text)
        for i, value in enumerate((by_word.errors, by_word.total, by_character.errors, by_character.total)):
            self.errors[i] += value
        # One by one, the words of a number may not normalise as together ("twenty one"): plain words may still agree.
        marks = zip(
            _right(reference, words, self.normalize), _right(reference, words, normalizer("basic")), strict=True
        )
        for word, (right, plainly) in zip(words, marks, strict=True):
            right = right or plainly if right is not None else None
            if right is None:
                continue
            i = 3 * min(int(word.confidence * _BINS), _BINS - 1)
            for j, number in enumerate((1.0, word.confidence, float(right))):
                self.bins[i + j] += number
            for k, threshold in enumerate(THRESHOLDS):
                at = 4 * k + (0 if word.confidence < threshold else 2)
                self.masked[at] += 1
                self.masked[at + 1] += not right

    def totals(self) -> list[float]:
        """All sums in one list."""
        return [*self.loss, *self.errors, *self.bins, *self.masked]

    @staticmethod
    def results(totals: Sequence[float]) -> dict[str, float]:
        """Rates by their logged names, from the ``totals`` of all ranks."""
        loss, errors = totals[:2], totals[2:6]
        bins, masked = totals[6 : 6 + 3 * _BINS], totals[6 + 3 * _BINS :]
        found = {
            "dev/wer": errors[0] / max(errors[1], 1.0),
            "dev/cer": errors[2] / max(errors[3], 1.0),
            # Expected calibration error (Guo et al. 2017): how far confidence and accuracy are apart, mean over words.
            "dev/ece": sum(abs(bins[i + 1] - bins[i + 2]) for i in range(0, len(bins), 3)) / max(sum(bins[::3]), 1.0),
        }
        if loss[1]:
            found["dev/loss"] = loss[0] / loss[1]
        for k, threshold in enumerate(THRESHOLDS):
            below, wrong, above, missed = masked[4 * k : 4 * k + 4]
            found[f"dev/masked_{threshold}"] = below / max(below + above, 1.0)
            found[f"dev/masked_error_{threshold}"] = wrong / max(below, 1.0)
            found[f"dev/kept_error_{threshold}"] = missed / max(above, 1.0)
        return found


def _right(reference: str, words: Sequence[DraftWord], normalize: Callable[[str], str]) -> list[bool | None]:
    """Whether each word stands in the reference where the alignment puts it; None for one that is nothing when normalised."""
    parts = [normalize(word.text).split() for word in words]
    pairs = alignment(normalize(reference).split(), [part for each in parts for part in each])
    right = iter([a == b for a, b in pairs if b != GAP])
    marks = [[next(right) for _ in each] for each in parts]
    return [all(each) if each else None for each in marks]
