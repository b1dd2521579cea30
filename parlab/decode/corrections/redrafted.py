"""Corrected texts as drafts: with confidences, frames and windows, as if CTC had written them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from parlab.decode.corrections.words import DraftWords, Word
from parlab.decode.draft import Draft, draft_hypotheses
from parlab.decode.filling.drafting import Drafting
from parlab.text.spelling import Spelling
from parlab.types import Hypothesis

Span = tuple[int, int]


def redrafted(
    drafting: Drafting, drafts: Sequence[DraftWords], texts: Sequence[Sequence[Word]], chances: Tensor
) -> Drafting:
    """The drafts with other words.

    A word of the draft keeps what is known of it. One that the decoder wrote has the decoder's probabilities, and the frames of the
    letters that it stands for; where it stands for none, the last frame before it.

    Args:
        drafts, texts: the words of B utterances, before and after.
        chances: (B, U) the decoder's probability of each token.
    """
    old, spelling, shape = drafting.draft, drafting.spelling, chances.shape
    numbers = torch.zeros(4, *shape, dtype=torch.long)  # ids, first and last frames, sizes
    confidence, word_lengths = torch.ones(shape), torch.ones(shape[0], shape[1] + 1, dtype=torch.long)
    edges = None if drafting.edges is None else torch.zeros(2, *shape, dtype=torch.long)
    lengths = torch.zeros(shape[0], dtype=torch.long)
    for b, (draft, words) in enumerate(zip(drafts, texts, strict=True)):
        frames = _letter_frames(draft, old.first[b].tolist(), old.last[b].tolist())
        for word in words:
            own = len(word.tokens)
            here = slice(int(lengths[b]), int(lengths[b]) + own)
            lengths[b] += own
            numbers[0, b, here] = torch.tensor(word.tokens)
            numbers[3, b, here.start] = _size(word, draft, spelling)
            if word.drafted is None:
                first, last = _frames(word, frames)
                numbers[1, b, here], numbers[2, b, here] = first, last
                confidence[b, here] = chances[b, here]
            else:
                there = slice(word.drafted, word.drafted + own)
                numbers[1, b, here], numbers[2, b, here] = old.first[b, there], old.last[b, there]
                confidence[b, here] = old.confidence[b, there]
            if spelling is not None:
                word_lengths[b, here] = torch.arange(own, 0, -1)
            if edges is not None and spelling is not None and spelling.by_letters:
                edges[:, b, here] = _edges(word, spelling).unsqueeze(1)
    tokens, first_frames, last_frames, sizes = numbers
    found = Draft(tokens, lengths, confidence, first_frames, last_frames, old.frames, old.score)
    return replace(
        drafting,
        draft=found,
        greedy=_hypotheses(found, drafting, texts),
        word_lengths=word_lengths,
        edges=edges,
        cores=None,
        heard=sizes,
        follows_best_path=False,
    )


def _letter_frames(draft: DraftWords, first: Sequence[int], last: Sequence[int]) -> list[Span]:
    """First and last frame of each letter of a draft: those of a word in equal parts.

    Args:
        first, last: frames of the draft's tokens.
    """
    spans: list[Span] = []
    for word in draft.words:
        assert word.drafted is not None
        begin, width = first[word.drafted], last[word.drafted + len(word.tokens) - 1] + 1 - first[word.drafted]
        count = word.end - word.start
        starts = [begin + i * width // max(count, 1) for i in range(count + 1)]
        spans += [(start, max(end - 1, start)) for start, end in pairwise(starts)]
    return spans


def _frames(word: Word, letters: Sequence[Span]) -> Span:
    """The frames of a word that the decoder wrote."""
    if word.is_added:
        frame = letters[word.start - 1][1] if word.start else 0
        return frame, frame
    return letters[word.start][0], letters[word.end - 1][1]


def _size(word: Word, draft: DraftWords, spelling: Spelling | None) -> int:
    """How much of the draft a word stands for, as ``Drafting.sizes`` counts: letters and a blank, or the tokens of its words."""
    if spelling is not None and spelling.by_letters:
        return 0 if word.is_added else word.end - word.start + 1
    return sum(len(other.tokens) for other in draft.words if word.start <= other.start < word.end)


def _edges(word: Word, spelling: Spelling) -> Tensor:
    """The first and the last letter (2,) of a word in CTC's vocabulary, which writes letters."""
    ids = [i for token in word.tokens for i in spelling.letters[token] if i != spelling.space] or [0]
    return torch.tensor([ids[0], ids[-1]])


def _hypotheses(found: Draft, drafting: Drafting, texts: Sequence[Sequence[Word]]) -> list[Hypothesis]:
    """The drafts as hypotheses, which count the tokens that the decoder wrote."""
    hypotheses = []
    for hypothesis, old, words in zip(draft_hypotheses(found, drafting.stride), drafting.greedy, texts, strict=True):
        written = sum(len(word.tokens) for word in words if word.drafted is None)
        counts = {**old.counts, **hypothesis.counts, "corrected_tokens": written}
        hypotheses.append(replace(hypothesis, counts=counts))
    return hypotheses
