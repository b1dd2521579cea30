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


@dataclass
class DevScores:
    """What one rank has seen of the development data.

    Attributes:
        references, hypotheses: texts, as many of one as of the other; none where the model has no CTC head.
        sums: of each loss, weighted by the utterances of its batch.
        utterances: that the losses were summed over.
    """

    references: list[str] = field(default_factory=list)
    hypotheses: list[str] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    utterances: int = 0

    def add_losses(self, losses: Losses, utterances: int) -> None:
        """Count the losses of a batch."""
        for name, value in by_name(losses).items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * utterances
        self.utterances += utterances

    def add_texts(self, references: Sequence[str], hypotheses: Sequence[str]) -> None:
        """Count the greedy output of a batch."""
        self.references += references
        self.hypotheses += hypotheses

    def totals(self) -> list[float]:
        """Numbers that add up over ranks: errors and words, errors and characters, utterances, then the sums."""
        found = corpus_errors(self.references, self.hypotheses)
        wer, cer = found["wer"], found["cer"]
        return [wer.errors, wer.total, cer.errors, cer.total, self.utterances, *self.sums.values()]

    def results(self, totals: Sequence[float]) -> dict[str, float]:
        """Means and rates by their logged names, from the ``totals`` of all ranks."""
        word_errors, words, character_errors, characters, utterances, *sums = totals
        means = {f"dev/{name}": total / max(utterances, 1) for name, total in zip(self.sums, sums, strict=True)}
        return {
            **means,
            "dev/wer": word_errors / max(words, 1),
            "dev/cer": character_errors / max(characters, 1),
        }
