"""Drafts in a vocabulary of their own as hypotheses in the decoder's tokens, word by word."""

from __future__ import annotations

from parlab.decode.draft import Draft
from parlab.model.heads.drafted import Drafted
from parlab.types import Hypothesis


def respelled(draft: Draft, drafted: Drafted) -> list[Hypothesis]:
    """The draft's words in the decoder's tokens; the score is that of the best path.

    A word's confidence is the least of its draft tokens', its frames run from the first of them to the last; all of its
    decoder tokens have both.
    """
    columns = (draft.tokens, draft.confidence, draft.first, draft.last, draft.lengths, draft.score)
    found = []
    for tokens, confidence, first, last, n, score in zip(*(c.tolist() for c in columns), strict=True):
        ids: list[int] = []
        sure: list[float] = []
        spans: list[tuple[int, int]] = []
        for word in drafted.spelling.words(tokens[:n]):
            ids += word.tokens
            sure += [min(confidence[word.start : word.end])] * len(word.tokens)
            span = (first[word.start] * drafted.stride, (last[word.end - 1] + 1) * drafted.stride - 1)
            spans += [span] * len(word.tokens)
        counts = {"tokens": len(ids), "draft_tokens": n}
        found.append(Hypothesis(tuple(ids), score, tuple(sure), tuple(spans), counts=counts))
    return found
