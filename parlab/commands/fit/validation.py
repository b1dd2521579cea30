"""Losses and error rates of the development data, pooled over batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from parlab.metrics.wer import corpus_errors
from parlab.model.losses import Losses


def by_name(losses: Losses) -> dict[str, Tensor]:
    """Losses (and the decoder's accuracy) that the model has, by the names they are logged under."""
    values = {"loss": losses.total, "ctc": losses.ctc, "attention": losses.attention, "accuracy": losses.accuracy}
    return {name: value for name, value in values.items() if value is not None}


NAMES = ("loss", "ctc", "attention", "accuracy")


@dataclass
class DevScores:
    """What one rank has seen of the development data.

    Attributes:
        references, hypotheses: texts, as many of one as of the other; none where the model has no CTC head.
        sums: of each loss, weighted by the utterances of its batch; ``counts`` are the utterances summed over.
    """

    references: list[str] = field(default_factory=list)
    hypotheses: list[str] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add_losses(self, losses: Losses, utterances: int) -> None:
        """Count the losses of a batch."""
        for name, value in by_name(losses).items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * utterances
            self.counts[name] = self.counts.get(name, 0) + utterances

    def add_texts(self, references: Sequence[str], hypotheses: Sequence[str]) -> None:
        """Count the greedy output of a batch."""
        self.references += references
        self.hypotheses += hypotheses

    def totals(self) -> list[float]:
        """Numbers that add up over ranks: errors and words, errors and characters, then each loss and its utterances.

        As many on every rank, also on one that saw no utterance.
        """
        found = corpus_errors(self.references, self.hypotheses)
        wer, cer = found["wer"], found["cer"]
        losses = [value for name in NAMES for value in (self.sums.get(name, 0.0), self.counts.get(name, 0))]
        return [wer.errors, wer.total, cer.errors, cer.total, *losses]

    @staticmethod
    def results(totals: Sequence[float]) -> dict[str, float]:
        """Means and rates by their logged names, from the ``totals`` of all ranks."""
        word_errors, words, character_errors, characters, *losses = totals
        pairs = zip(NAMES, losses[::2], losses[1::2], strict=True)
        return {
            **{f"dev/{name}": total / count for name, total, count in pairs if count},
            "dev/wer": word_errors / max(words, 1),
            "dev/cer": character_errors / max(characters, 1),
        }
