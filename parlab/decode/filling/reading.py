"""Given tokens read by the decoder after the texts of segments: all rows at once, each as far as it goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers import Rows
from parlab.decode.scorers.attention import AttentionScorer, AttentionState, normalizer
from parlab.model.caches import RowLayout
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
        # The host knows what each step has to do, and where its rows lie: no step waits for the device.
        steps = [_Step.of(step, self, scorer) for step in range(int(self.total.max()))]
        numbers = [x for step in steps for x in step.numbers()]
        group, *moved = to_device(tokens.device, self.group, *numbers)
        prefix_length, batch = scorer.prefix_length[group], scorer.cross.keys[0].size(0)
        # All rows at once; a row leaves when all but its last token is read.
        found = scorer.hidden.new_zeros(len(group), dtype=torch.float32)
        state = AttentionState(scorer.hidden[group], None)
        for number, step in enumerate(steps):
            scored, scored_of_live, kept, kept_of_live, slot = moved[5 * number : 5 * number + 5]
            if len(scored):
                logits = scorer.decoder.logits(state.hidden[scored_of_live])
                wanted = tokens[scored, number].unsqueeze(1)
                found[scored] += (logits.gather(1, wanted) - normalizer(logits)).squeeze(1)
            if len(kept):
                layout = RowLayout(prefix_length[kept], batch, step.width, None if step.slot is None else slot)
                state = scorer.advance_in(layout, state, Rows(kept_of_live, tokens[kept, number], group[kept]))
        return found


@dataclass(frozen=True)
class _Step:
    """What the reading of one more token has to do, as numbers of rows; ``..._of_live`` are their places among the live rows.

    Attributes:
        scored: rows whose token counts.
        kept: rows that read on after it.
        width, slot: of the layout of those (``RowLayout``).
    """

    scored: Tensor
    scored_of_live: Tensor
    kept: Tensor
    kept_of_live: Tensor
    width: int
    slot: Tensor | None

    @staticmethod
    def of(step: int, reading: Reading, scorer: AttentionScorer) -> _Step:
        """Step ``step`` of a reading."""
        [live] = (step < reading.total).nonzero(as_tuple=True)
        [scored] = (step >= reading.begin[live]).nonzero(as_tuple=True)
        [kept] = (step + 1 < reading.total[live]).nonzero(as_tuple=True)
        width, slot = scorer.grid_of(reading.group[live[kept]])
        return _Step(live[scored], scored, live[kept], kept, width, slot)

    def numbers(self) -> tuple[Tensor, ...]:
        """All of its tensors; without a slot, an empty one."""
        slot = self.kept.new_zeros(0) if self.slot is None else self.slot
        return self.scored, self.scored_of_live, self.kept, self.kept_of_live, slot


def joined(fills: Tensor, own: Tensor, after: Tensor) -> Tensor:
    """Rows of the first ``own`` (n,) tokens of ``fills`` (n, L) and then all of ``after`` (n, A): (n, L + A), on the device."""
    room = fills.size(1)
    position = torch.arange(room + after.size(1), device=fills.device).expand(len(own), -1)
    beyond = (position - own.unsqueeze(1)).clamp(0, after.size(1) - 1)
    filled = fills.gather(1, position.clamp(max=max(room - 1, 0))) if room else position
    return torch.where(position < own.unsqueeze(1), filled, after.gather(1, beyond))
