"""Fills judged by the whole next word: words share their first tokens, so a stop token alone may end a fill too early."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Ended
from parlab.decode.scorers import Rows
from parlab.decode.scorers.attention import AttentionScorer, AttentionState, normalizer


def with_next_word(
    ended: Ended, scorer: AttentionScorer, words: Tensor, lengths: Tensor, bound: Tensor | None
) -> Ended:
    """Hypotheses whose scores count the rest of the next word too, weighted as the decoder is; its steps are counted.

    Args:
        ended: n-best of S segments, whose scores count the first token of the next word.
        scorer: of the segments.
        words: (S, A) the next word of each segment, of which ``lengths`` (S,) tokens count; all on the device.
        bound: (S,) hypotheses that score no more need not be judged; None judges all.
    """
    # 1. The hypotheses to judge, a row each, sorted by segment.
    asked = (ended.score > NEVER) & ~ended.forced & (lengths > 1).unsqueeze(1)
    if bound is not None:
        asked = asked & (ended.score > bound.unsqueeze(1))
    group, rank = asked.nonzero(as_tuple=True)
    if len(group) == 0:
        return ended
    # 2. Their tokens, then those of the next word.
    own = ended.lengths[group, rank]
    total = own + lengths[group]
    room = ended.tokens.size(2)
    position = torch.arange(int(total.max()), device=own.device).expand(len(own), -1)
    in_fill = position < own.unsqueeze(1)
    beyond = (position - own.unsqueeze(1)).clamp(0, words.size(1) - 1)
    filled = ended.tokens[group, rank].gather(1, position.clamp(max=max(room - 1, 0))) if room else position
    tokens = torch.where(in_fill, filled, words[group].gather(1, beyond))
    # 3. The decoder reads them, all rows at once; rows leave when all but their last token is read.
    rest = scorer.hidden.new_zeros(len(own), dtype=torch.float32)
    state, rows = AttentionState(scorer.hidden[group], None), torch.arange(len(own), device=own.device)
    for step in range(tokens.size(1)):
        scored = (step > own[rows]).nonzero(as_tuple=True)[0]
        if len(scored):
            logits = scorer.decoder.logits(state.hidden[scored])
            wanted = tokens[rows[scored], step].unsqueeze(1)
            rest[rows[scored]] += (logits.gather(1, wanted) - normalizer(logits)).squeeze(1)
        [kept] = (step + 1 < total[rows]).nonzero(as_tuple=True)
        if len(kept) == 0:
            break
        state = scorer.advance(state, Rows(kept, tokens[rows[kept], step], group[rows[kept]]))
        rows = rows[kept]
    # 4. Added to the scores.
    score = ended.score.clone()
    score[group, rank] += scorer.weight * rest
    steps = torch.zeros_like(ended.steps).scatter_reduce(0, group, total - 1, "amax")
    return replace(ended, score=score, steps=ended.steps + steps)
