"""ESPnet's rules for time symbols (``ScoreFilter`` of espnet2/bin/s2t_inference.py), as a scorer of 0 and -inf.

With timestamps, text begins with a time, every time that opens a part is followed by a later one that closes it, and
after a closing one comes an opening one, not earlier, or the end. Without timestamps no time symbol is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.scorers import Rows, VocabularyScorer
from parlab.decode.search.plan import Plan


@dataclass(frozen=True)
class TimeState:
    """Of N rows: times so far, the newest of them (or -1), whether it is the newest token, and the group."""

    count: Tensor
    newest: Tensor
    at_time: Tensor
    group: Tensor


@dataclass(frozen=True)
class TimestampRules(VocabularyScorer[TimeState]):
    """Which tokens may follow.

    Attributes:
        timed: (G,) whether a group writes times.
        first_time, last_time: ids of the time symbols.
        stop: the token that ends a hypothesis.
        vocabulary: V.
        copies: rows that a group starts with.
    """

    timed: Tensor
    first_time: int
    last_time: int
    stop: int
    vocabulary: int
    weight: float = 1.0
    proposes: bool = False
    copies: int = 1

    def start(self) -> TimeState:
        group = torch.arange(len(self.timed) * self.copies, device=self.timed.device) // self.copies
        none = torch.zeros_like(group)
        return TimeState(none, none - 1, none.bool(), group)

    def score(self, state: TimeState) -> tuple[Tensor, Tensor]:
        ids = torch.arange(self.vocabulary, device=state.count.device)
        times = (ids >= self.first_time) & (ids <= self.last_time)
        newest = state.newest.unsqueeze(1)
        inside = ~(ids == self.stop) & ~(times & (ids <= newest))
        between = ((times & (ids >= newest)) | (ids == self.stop)) & state.at_time.unsqueeze(1)
        allowed = torch.where((state.count % 2 == 1).unsqueeze(1), inside, between)
        allowed = torch.where((state.count == 0).unsqueeze(1), times, allowed)
        allowed = torch.where(self.timed[state.group].unsqueeze(1), allowed, ~times)
        scores = torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, float("-inf"))
        return scores, scores.new_zeros(len(scores), 1)

    def advance(self, state: TimeState, rows: Rows) -> TimeState:
        at_time = (rows.tokens >= self.first_time) & (rows.tokens <= self.last_time)
        newest = torch.where(at_time, rows.tokens, state.newest[rows.parents])
        return TimeState(state.count[rows.parents] + at_time, newest, at_time, rows.group)

    def fixed(self, plan: Plan) -> TimestampRules:
        return replace(self, timed=self.timed[plan.source], copies=plan.beam)
