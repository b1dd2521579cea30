"""Fills judged by the whole next word: words share their first tokens, so a stop token alone may end a fill too early."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Ended
from parlab.decode.scorers import Rows
from parlab.decode.scorers.attention import AttentionScorer, AttentionState, normalizer
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
    # 1. The hypotheses to judge, a row each, sorted by segment; the host knows what each step has to do.
    asked = (ended.score > NEVER) & ~ended.forced
    if bound is not None:
        asked = asked & (ended.score > bound.unsqueeze(1))
    asked, own = to_host(asked, ended.lengths)
    rows = (asked & (lengths > 1).unsqueeze(1)).nonzero()
    if len(rows) == 0:
        return ended
    own = own[rows[:, 0], rows[:, 1]]
    total = own + lengths[rows[:, 0]]
    steps = [_Step.of(step, own, total) for step in range(int(total.max()))]
    numbers = [x for step in steps for x in (step.scored, step.scored_of_live, step.kept, step.kept_of_live)]
    group, rank, own, total, *moved = to_device(words.device, *rows.unbind(1), own, total, *numbers)
    # 2. Their tokens, then those of the next word.
    room = ended.tokens.size(2)
    position = torch.arange(len(steps), device=own.device).expand(len(own), -1)
    in_fill = position < own.unsqueeze(1)
    beyond = (position - own.unsqueeze(1)).clamp(0, words.size(1) - 1)
    filled = ended.tokens[group, rank].gather(1, position.clamp(max=max(room - 1, 0))) if room else position
    tokens = torch.where(in_fill, filled, words[group].gather(1, beyond))
    # 3. The decoder reads them, all rows at once; rows leave when all but their last token is read.
    rest = scorer.hidden.new_zeros(len(own), dtype=torch.float32)
    state = AttentionState(scorer.hidden[group], None)
    for step in range(len(steps)):
        scored, scored_of_live, kept, kept_of_live = moved[4 * step : 4 * step + 4]
        if len(scored):
            logits = scorer.decoder.logits(state.hidden[scored_of_live])
            wanted = tokens[scored, step].unsqueeze(1)
            rest[scored] += (logits.gather(1, wanted) - normalizer(logits)).squeeze(1)
        if len(kept):
            state = scorer.advance(state, Rows(kept_of_live, tokens[kept, step], group[kept]))
    # 4. Added to the scores.
    score = ended.score.clone()
    score[group, rank] += scorer.weight * rest
    read = torch.zeros_like(ended.steps).scatter_reduce(0, group, total - 1, "amax")
    return replace(ended, score=score, steps=ended.steps + read)


@dataclass(frozen=True)
class _Step:
    """What the reading of one more token has to do, as numbers of rows; ``..._of_live`` are their places among the live rows.

    Attributes:
        scored: rows whose token counts.
        kept: rows that read on after it.
    """

    scored: Tensor
    scored_of_live: Tensor
    kept: Tensor
    kept_of_live: Tensor

    @staticmethod
    def of(step: int, own: Tensor, total: Tensor) -> _Step:
        """Step ``step`` for rows of ``own`` (n,) tokens of a fill and ``total`` (n,) with those of the next word."""
        [live] = (step < total).nonzero(as_tuple=True)
        [scored] = (step > own[live]).nonzero(as_tuple=True)
        [kept] = (step + 1 < total[live]).nonzero(as_tuple=True)
        return _Step(live[scored], scored, live[kept], kept)
