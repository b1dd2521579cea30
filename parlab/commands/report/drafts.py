"""Drafts and their errors: which tokens CTC wrote, how sure it was, which were masked, which stand in wrong words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from parlab.metrics.wer import GAP, alignment, word_errors
from parlab.predictions.loaded import Prediction

BOUNDARY = "\u2581"  # sentencepiece's mark at the start of a word
SPACE = "<space>"


@dataclass(frozen=True)
class Draft:
    """The collapsed greedy CTC output of an utterance: token texts, confidences (None: not known) and masks, each (U,)."""

    text: tuple[str, ...]
    confidence: tuple[float | None, ...]
    masked: tuple[bool, ...]


def drafts(predictions: Sequence[Prediction]) -> list[dict[str, Draft]]:
    """The drafts of each prediction, by id; empty for decoders that have none.

    The confidence of a masked token is gone from a PAR record unless the writer kept it (``draft_confidence``): then a
    greedy prediction of the same model and the same draft tells it.
    """
    found = [{r["id"]: d for r in p.records if (d := draft_of(r, p.decoder)) is not None} for p in predictions]
    greedy: dict[tuple[str, str], Draft] = {}
    for p, own in zip(predictions, found, strict=True):
        if p.decoder == "greedy":
            greedy |= {(p.hashes.get("model", ""), i): d for i, d in own.items()}
    for p, own in zip(predictions, found, strict=True):
        for i, draft in own.items():
            sure = greedy.get((p.hashes.get("model", ""), i))
            if sure is not None and None in draft.confidence and sure.text == draft.text:
                own[i] = replace(draft, confidence=sure.confidence)
    return found


def draft_of(record: dict[str, Any], decoder: str) -> Draft | None:
    """The draft as the record tells it: kept tokens, and what each segment replaced."""
    if decoder not in {"greedy", "par"} and "draft_text" not in record:
        return None
    text: list[str] = []
    confidence: list[float | None] = []
    masked: list[bool] = []
    place = 0
    for segment in record["segments"]:
        kept = segment["start"] - len(text)
        text += record["token_text"][place : place + kept]
        confidence += record["token_confidence"][place : place + kept]
        masked += [False] * kept
        replaced = segment.get("draft_text") or [f"#{i}" for i in segment["draft"]]
        text += replaced
        confidence += [None] * len(replaced)
        masked += [True] * len(replaced)
        place += kept + len(segment["fill"])
    text += record["token_text"][place:]
    confidence += record["token_confidence"][place:]
    masked += [False] * (len(text) - len(masked))
    told = record.get("draft_confidence")
    if told is not None and len(told) == len(text):
        confidence = list(told)
    return Draft(tuple(text), tuple(confidence), tuple(masked))


def words_of(tokens: Sequence[str], words_are_tokens: bool = False) -> list[tuple[str, list[int]]]:
    """Words, each with the places of its tokens; tokens are pieces (``\u2581``), characters (``<space>``) or words."""
    if words_are_tokens:
        return [(t, [i]) for i, t in enumerate(tokens)]
    words: list[tuple[str, list[int]]] = [("", [])]
    for i, token in enumerate(tokens):
        if token == SPACE:
            words.append(("", []))
            continue
        if token.startswith(BOUNDARY):
            words.append(("", []))
        word, places = words[-1]
        words[-1] = (word + token.replace(BOUNDARY, ""), [*places, i])
    return [(word, places) for word, places in words if word]


def token_errors(
    tokens: Sequence[str],
    reference: str,
    normalize: Callable[[str], str] = str,
    words_are_tokens: bool = False,
) -> list[bool]:
    """Whether each token belongs to a word that the alignment with ``reference`` (normalised) calls wrong.

    Words are normalised one by one; one that becomes several is wrong if any of them is. Words that are missing have
    no token, and are not seen here.
    """
    spoken: list[str] = []
    owner: list[list[int]] = []
    for word, places in words_of(tokens, words_are_tokens):
        for part in normalize(word).split():
            spoken.append(part)
            owner.append(places)
    wrong = [False] * len(tokens)
    place = 0
    for r, h in alignment(reference.split(), spoken):
        if h == GAP:
            continue
        if r != h:
            for i in owner[place]:
                wrong[i] = True
        place += 1
    return wrong


def spoken(tokens: Sequence[str], words_are_tokens: bool = False) -> str:
    """Tokens as text."""
    return " ".join(word for word, _ in words_of(tokens, words_are_tokens))


def draft_errors(prediction: Prediction, own: dict[str, Draft]) -> dict[str, int]:
    """Word errors of each scored utterance's draft, by id."""
    return {
        r["id"]: word_errors(
            prediction.normalized(r["ref"]),
            prediction.normalized(spoken(own[r["id"]].text, prediction.words_are_tokens)),
        ).errors
        for r in prediction.scored
        if r["id"] in own
    }
