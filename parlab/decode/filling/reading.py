"""Given tokens read by the decoder after the texts of segments: all rows at once, each as far as it goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers import Rows
from parlab.decode.scorers.attention import AttentionScorer, AttentionState, normalizer
from parlab.transfer import to_device


@dataclass(frozen=True)
class Reading:
    """Rows of tokens, on the host.

    Attributes:
        group: (n,) segment of each row, sorted.
        begin: (n,) tokens of a row that are read and not scored.
        total: (n,) tokens of it, the scored ones included.
    """

    group: Tensor
    begin: Tensor
    total: Tensor

    def scores(self, scorer: AttentionScorer, tokens: Tensor) -> Tensor:
        """The decoder's log-probability (n,) of each row's tokens from ``begin`` on, in float32, without the scorer's weight.

        Args:
            scorer: of the segments.
            tokens: (n, longest) of the rows, on the device; what follows ``total`` is anything.
        """
        # The host knows what each step has to do.
        steps = [_Step.of(step, self.begin, self.total) for step in range(int(self.total.max()))]
        numbers = [x for step in steps for x in (step.scored, step.scored_of_live, step.kept, step.kept_of_live)]
        group, *moved = to_device(tokens.device, self.group, *numbers)
        # All rows at once; a row leaves when all but its last token is read.
        found = scorer.hidden.new_zeros(len(group), dtype=torch.float32)
        state = AttentionState(scorer.hidden[group], None)
        for step in range(len(steps)):
            scored, scored_of_live, kept, kept_of_live = moved[4 * step : 4 * step + 4]
            if len(scored):
                logits = scorer.decoder.logits(state.hidden[scored_of_live])
                wanted = tokens[scored, step].unsqueeze(1)
                found[scored] += (logits.gather(1, wanted) - normalizer(logits)).squeeze(1)
            if len(kept):
                state = scorer.advance(state, Rows(kept_of_live, tokens[kept, step], group[kept]))
        return found


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
    def of(step: int, begin: Tensor, total: Tensor) -> _Step:
        """Step ``step`` for rows whose tokens count from ``begin`` (n,) up to ``total`` (n,)."""
        [live] = (step < total).nonzero(as_tuple=True)
        [scored] = (step >= begin[live]).nonzero(as_tuple=True)
        [kept] = (step + 1 < total[live]).nonzero(as_tuple=True)
        return _Step(live[scored], scored, live[kept], kept)


def joined(fills: Tensor, own: Tensor, after: Tensor) -> Tensor:
    """Rows of the first ``own`` (n,) tokens of ``fills`` (n, L) and then all of ``after`` (n, A): (n, L + A), on the device."""
    room = fills.size(1)
    position = torch.arange(room + after.size(1), device=fills.device).expand(len(own), -1)
    beyond = (position - own.unsqueeze(1)).clamp(0, after.size(1) - 1)
    filled = fills.gather(1, position.clamp(max=max(room - 1, 0))) if room else position
    return torch.where(position < own.unsqueeze(1), filled, after.gather(1, beyond))
