"""Fills judged by the whole next word: words share their first tokens, so a stop token alone may end a fill too early."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Ended
from parlab.decode.filling.reading import Reading, joined
from parlab.decode.scorers.attention import AttentionScorer
from parlab.transfer import to_device, to_host


def with_next_word(
    ended: Ended, scorer: AttentionScorer, words: Tensor, lengths: Tensor, bound: Tensor | None
) -> Ended:
    """Hypotheses whose scores count the rest of the next word too, weighted as the decoder is; its steps are counted.

    Args:
        ended: n-best of S segments, whose scores count the first token of the next word.
        scorer: of the segments.
        words: (S, A) the next word of each segment, on the device; ``lengths`` (S,) tokens of it count, on the host.
        bound: (S,) hypotheses that score no more need not be judged; None judges all.
    """
    # 1. The hypotheses to judge, a row each, sorted by segment.
    asked = (ended.score > NEVER) & ~ended.forced
    if bound is not None:
        asked = asked & (ended.score > bound.unsqueeze(1))
    asked, own = to_host(asked, ended.lengths)
    rows = (asked & (lengths > 1).unsqueeze(1)).nonzero()
    if len(rows) == 0:
        return ended
    own = own[rows[:, 0], rows[:, 1]]
    reading = Reading(rows[:, 0], own + 1, own + lengths[rows[:, 0]])
    group, rank, own, total = to_device(words.device, *rows.unbind(1), own, reading.total)
    # 2. The decoder reads their tokens, then those of the next word, whose first is scored already.
    rest = reading.scores(scorer, joined(ended.tokens[group, rank], own, words[group]))
    score = ended.score.clone()
    score[group, rank] += scorer.weight * rest
    read = torch.zeros_like(ended.steps).scatter_reduce(0, group, total - 1, "amax")
    return replace(ended, score=score, steps=ended.steps + read)
