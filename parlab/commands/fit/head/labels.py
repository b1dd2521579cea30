"""What a head is taught to write: the texts of the data, or what the model itself heard, as ``predict`` wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.predictions.hypotheses import read_hypotheses
from parlab.text.loops import loops, too_fast
from parlab.text.tokenizer import BLANK, SPACE, Tokenizer


@dataclass
class Labels:
    """Texts by utterance.

    Attributes:
        texts: of predictions; None: the utterances' own texts are the labels.
        left_out: utterances that are not taught, counted by the reason.
    """

    texts: Mapping[str, str] | None
    left_out: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def read(folders: Sequence[str]) -> Labels:
        """The texts of the folders that ``predict`` wrote; none of them: the data's own.

        Raises:
            UserError: one cannot be read, or two of them name an utterance.
        """
        if not folders:
            return Labels(None)
        texts: dict[str, str] = {}
        for folder in folders:
            try:
                records = read_hypotheses(Path(folder))
            except OSError as error:
                raise UserError(
                    f"the labels {folder} cannot be read ({type(error).__name__}), expected a folder that `predict --out` wrote; "
                    "check the path"
                ) from error
            for record in records:
                if texts.setdefault(record.id, record.text) != record.text:
                    raise UserError(
                        f"'{record.id}' has two labels, the second in {folder}, expected one; leave one folder out"
                    )
        return Labels(texts)

    def of(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterances with labels as their texts, without those that have none of use.

        Raises:
            UserError: none is left.
        """
        kept = []
        for u in utterances:
            text = u.text if self.texts is None else self.texts.get(u.id)
            text = " ".join((text or "").split())
            reason = self._unusable(text, u.duration or 0.0)
            if reason is None:
                kept.append(replace(u, text=text))
            else:
                self.left_out[reason] += 1
        if not kept:
            raise UserError(
                f"none of {len(utterances)} utterances has a label of use ({_listed(self.left_out)}), expected some; name texts or "
                "predictions of these data (data.labels)"
            )
        return kept

    def _unusable(self, text: str, seconds: float) -> str | None:
        if not text:
            return "without a label"
        if self.texts is not None and loops(text):
            return "with a label in circles"
        if self.texts is not None and too_fast(text, seconds):
            return "with a label too long to be said"
        return None


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def characters(texts: Sequence[str], least: int) -> Tokenizer:
    """The characters that occur at least ``least`` times, after the blank and the space.

    Raises:
        UserError: there is none.
    """
    counts = Counter(c for text in texts for c in text if c != " ")
    found = sorted(c for c, count in counts.items() if count >= least)
    if not found:
        raise UserError(
            f"no character occurs {least} times in {len(texts)} labels, expected a vocabulary; lower data.min_count, or give "
            "more labels"
        )
    return Tokenizer([BLANK, SPACE, *found], "char")


def spelled(utterances: Sequence[Utterance], tokenizer: Tokenizer, left_out: Callable[[int], None]) -> list[Utterance]:
    """The utterances whose labels the vocabulary can spell; ``left_out`` is told how many are not.

    Raises:
        UserError: none is left.
    """
    kept = [u for u in utterances if not tokenizer.unspellable(u.text or "")]
    left_out(len(utterances) - len(kept))
    if not kept:
        raise UserError(
            f"the head's vocabulary can spell none of {len(utterances)} labels, expected most; lower data.min_count"
        )
    return kept
