"""Drafts and their errors: tokens that CTC wrote, their confidences and masks, and which stand in wrong words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parlab.metrics.token_errors import words_of
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.prediction import Prediction, known_word_errors
from parlab.text.normalizer import normalizer


@dataclass(frozen=True)
class Draft:
    """The collapsed greedy CTC output of an utterance: token texts, confidences (None: not known) and masks, each (U,)."""

    text: tuple[str, ...]
    confidence: tuple[float | None, ...]
    masked: tuple[bool, ...]


Drafts = dict[str, Draft]
"""Drafts of a prediction by the utterance's id; empty for decoders that have none."""


def read_drafts(predictions: Sequence[Prediction]) -> list[Drafts]:
    """The drafts of each prediction.

    A PAR record has no confidence of the tokens that were masked. It is taken from a greedy prediction of the same model
    with the same draft and confidence measure, where there is one.
    """
    found = [{r.id: d for r in p.records if (d := draft_of(r, p.decoder)) is not None} for p in predictions]
    greedy: dict[tuple[str, str, str], Draft] = {}
    for p, drafts in zip(predictions, found, strict=True):
        if p.decoder == "greedy":
            greedy |= {(p.metrics.hashes.model, measure_of(p), i): d for i, d in drafts.items()}
    for p, drafts in zip(predictions, found, strict=True):
        for i, draft in drafts.items():
            known = greedy.get((p.metrics.hashes.model, measure_of(p), i))
            if known is not None and None in draft.confidence and known.text == draft.text:
                drafts[i] = replace(draft, confidence=known.confidence)
    return found


def measure_of(p: Prediction) -> str:
    """The confidence measure of a prediction; one of an earlier version has the posterior."""
    return str(p.options.get("measure", "posterior"))


def draft_of(record: UtteranceRecord, decoder: str) -> Draft | None:
    """Rebuild the draft from the kept tokens and from what each segment replaced; None for decoders without a draft."""
    if decoder not in {"greedy", "par"}:
        return None
    if not record.segments:
        return Draft(record.token_text, record.token_confidence, (False,) * len(record.token_text))
    text: list[str] = []
    confidence: list[float | None] = []
    masked: list[bool] = []
    index = 0  # of the next token of the result
    for segment in record.segments:
        kept = segment.start - len(text)
        text += record.token_text[index : index + kept]
        confidence += record.token_confidence[index : index + kept]
        masked += [False] * kept
        replaced = segment.draft_text or tuple(f"#{i}" for i in segment.draft)
        text += replaced
        confidence += [None] * len(replaced)
        masked += [True] * len(replaced)
        index += kept + len(segment.fill)
    text += record.token_text[index:]
    confidence += record.token_confidence[index:]
    masked += [False] * (len(text) - len(masked))
    return Draft(tuple(text), tuple(confidence), tuple(masked))


def draft_errors(p: Prediction, drafts: Drafts) -> int:
    """Word errors of all drafts of scored utterances."""
    errors, merge = 0, normalizer(p.metrics.normalizer.name).merge_compounds
    for r, reference, count in zip(p.scored, p.references, p.word_counts, strict=True):
        if r.id in drafts and not r.segments:
            errors += count.errors  # the draft is the result
        elif r.id in drafts:
            words = " ".join(word for word, _ in words_of(drafts[r.id].text, p.words_are_tokens))
            errors += known_word_errors(reference, p.normalized(words), merge).errors
    return errors
