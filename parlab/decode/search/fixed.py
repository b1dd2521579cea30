"""Beam search in fixed shapes, for accelerators: no step waits for the host, and one graph serves all steps.

Where the search that drops rows (``parlab/decode/beam.py``) keeps live rows only, this one keeps K rows for every slot of a plan: rows
that are dropped have the score ``-inf``. The number of the step and whether any row is left stay on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Candidates, Ended
from parlab.decode.scorers import AnyScorer, Rows
from parlab.decode.search.groups import BeamOptions, Groups
from parlab.decode.search.plan import FIRST_CAPACITY, Plan, padded
from parlab.decode.search.rules import END_LENGTHS, END_MARGIN, Rules, Scoring, States

_LOOK = 8  # steps after which the host looks whether a row is left
_SHORT = 64  # steps of a short search, in which it looks three times at most
_WIDER = 4  # searches of segments end early: after each look the next one is so many times as far


def looks(steps: int, segments: bool) -> frozenset[int]:
    """Steps before which the host looks whether a row is left, for which it waits.

    Args:
        segments: whether segments are searched (PAR): then at most once in 32 steps, twice in 128, three times in 512.
    """
    if segments:
        return frozenset(_LOOK * _WIDER**i for i in range(steps.bit_length()) if _LOOK * _WIDER**i < steps)
    every = _LOOK if steps > _SHORT else max(_LOOK, -(-steps // 4))
    return frozenset(range(every, steps, every))


@dataclass(frozen=True)
class GridState:
    """A search between two steps: G slots, K rows each, with room for R tokens.

    Attributes:
        step: () number of the next step.
        alive: () whether a row is left.
        score: (G, K) of the rows; ``-inf`` where one is dropped.
        tokens, token_scores: (G, K, R).
        ended: the n-best, with room for R tokens.
        done, broken: (G,) end detection has stopped the group; one of its scores was NaN.
        by_length: (G, R) best score that ended at each step.
        states: of the scorers.
    """

    step: Tensor
    alive: Tensor
    score: Tensor
    tokens: Tensor
    token_scores: Tensor
    ended: Ended
    done: Tensor
    broken: Tensor
    by_length: Tensor
    states: States


@dataclass(frozen=True)
class FixedSearch:
    """What does not change during a search.

    Attributes:
        plan: slots of the groups.
        scoring: fixed scorers.
        rules: those of the slots.
        slot: (N,) the slot of each row; ``stop`` (N, 1) its stop token.
        first: (slots, 1) the first row of each slot.
    """

    plan: Plan
    scoring: Scoring
    rules: Rules
    slot: Tensor
    stop: Tensor
    first: Tensor

    @staticmethod
    def of(scorers: Sequence[AnyScorer], groups: Groups, options: BeamOptions) -> FixedSearch | None:
        """The search in fixed shapes; None where a scorer has none."""
        owner = range(len(groups.stop)) if groups.owner is None else groups.owner.tolist()
        plan = Plan.of(owner, options.beam_size, groups.stop.device)
        fixed = [scorer.fixed(plan) for scorer in scorers]
        usable = [scorer for scorer in fixed if scorer is not None]
        if len(usable) < len(fixed):
            return None
        least, bound = groups.min_length, groups.bound
        slots = Groups(
            stop=groups.stop[plan.source],
            max_length=groups.max_length[plan.source],
            min_length=None if least is None else least[plan.source],
            bound=None if bound is None else bound[plan.source],
            extent=None if groups.extent is None else groups.extent.select(plan.source),
        )
        scoring = Scoring.of(usable, options, groups.stop.device)
        slot = plan.rows()
        stop, first = (
            slots.stop[slot].unsqueeze(1),
            torch.arange(plan.slots, device=slot.device).unsqueeze(1) * plan.beam,
        )
        return FixedSearch(plan, scoring, Rules.of(scorers, slots, options), slot, stop, first)

    def run(self, groups: Groups, run_step: Callable[[FixedSearch, GridState], GridState] | None = None) -> Ended:
        """Search for the G groups that the search is of; ``run_step`` does what ``step`` does."""
        run_step = FixedSearch.step if run_step is None else run_step
        steps, slot = groups.steps, self.plan.slot[: len(groups.stop)]
        look = looks(steps, segments=groups.owner is not None)
        state = self.start()
        for step in range(steps):
            if step in look and not bool(state.alive):
                break
            if step == state.tokens.size(2):
                state = self.with_room(state, 2 * step)
            last = step == steps - 1  # nothing comes after it: the scorers need not advance
            state = self.step(state, last) if last else run_step(self, state)
        ended = state.ended.with_broken(state.broken)
        # Of each group its slot.
        return Ended(*(getattr(ended, field.name)[slot] for field in fields(Ended)))

    def start(self) -> GridState:
        """One live row in each slot that has a group."""
        plan, nbest = self.plan, self.rules.options.nbest
        device = plan.source.device
        score = torch.full((plan.slots, plan.beam), NEVER, device=device)
        score[:, 0] = torch.where(plan.real, 0.0, NEVER)
        tokens = torch.zeros(plan.slots, plan.beam, FIRST_CAPACITY, dtype=torch.long, device=device)
        ended = Ended.none(plan.slots, nbest, device)
        never = torch.zeros_like(plan.real)
        return GridState(
            step=torch.zeros((), dtype=torch.long, device=device),
            alive=torch.ones((), dtype=torch.bool, device=device),
            score=score,
            tokens=tokens,
            token_scores=torch.zeros(tokens.shape, device=device),
            ended=_with_room(ended, FIRST_CAPACITY),
            done=never,
            broken=never,
            by_length=score.new_full((plan.slots, FIRST_CAPACITY), NEVER),
            states=self.scoring.start(),
        )

    def with_room(self, state: GridState, size: int) -> GridState:
        """The same search with room for more tokens."""
        more = size - state.tokens.size(2)
        pairs = zip(self.scoring.scorers, state.states, strict=True)
        return replace(
            state,
            tokens=padded(state.tokens, 2, size),
            token_scores=padded(state.token_scores, 2, size),
            ended=_with_room(state.ended, size),
            by_length=torch.cat([state.by_length, state.by_length.new_full((len(state.by_length), more), NEVER)], 1),
            states=tuple(scorer.with_room(inner, size) for scorer, inner in pairs),
        )

    def step(self, state: GridState, last: bool = False) -> GridState:
        """Grow every row by one token; after the ``last`` step the scorers' states are of no use."""
        plan, step, options = self.plan, state.step, self.rules.options
        # 1. The K best continuations of each slot (2 K with ``refill``), over all of its rows; dropped rows have -inf.
        ids, scores = self.scoring.candidates(state.states, self.stop)
        width = ids.size(1)
        before = state.score.unsqueeze(2)
        summed = torch.where(before == NEVER, NEVER, before + scores.view(plan.slots, plan.beam, width))
        score, index = summed.flatten(1).topk(options.width, dim=1)
        parent, token = index // width, ids.view(plan.slots, -1).gather(1, index)
        broken = state.broken | score[:, 0].isnan()  # NaN comes before all numbers
        newest = torch.arange(state.tokens.size(2), device=step.device) == step
        wide = parent.unsqueeze(2).expand(-1, -1, state.tokens.size(2))
        gain = score - state.score.gather(1, parent)
        grown = Candidates(
            score=score,
            tokens=torch.where(newest, token.unsqueeze(2), state.tokens.gather(1, wide)),
            lengths=(step + 1).expand_as(token),
            token_scores=torch.where(newest, gain.unsqueeze(2), state.token_scores.gather(1, wide)),
        )
        # 2. Those that end; of the others those that cannot beat them are dropped.
        ended, live, now = self.rules.settle(grown, token, step, state.ended)
        done, by_length = state.done, state.by_length
        if options.refill:
            done = done | self.rules.outranked(step, score, live, ended)
        elif options.end_detection:
            by_length = torch.where(newest, score.masked_fill(~now, NEVER).amax(1, keepdim=True), by_length)
            done = done | self._detected(step, by_length)
        if options.refill or options.end_detection:
            live = live & ~done.unsqueeze(1)
        live = live & self.rules.unbeaten(score, ended)
        any_live = live.any(1)
        if options.refill:
            kept, live = _first(live, plan.beam)
            parent, token = parent.gather(1, kept), token.gather(1, kept)
            grown = _chosen(grown, kept)
        # 3. The scorers advance with all rows.
        rows = Rows((self.first + parent).flatten(), token.flatten(), self.slot)
        return GridState(
            step=step + 1,
            alive=any_live.any(),
            score=grown.score.masked_fill(~live, NEVER),
            tokens=grown.tokens,
            token_scores=grown.token_scores,
            ended=replace(ended, steps=torch.where(any_live, step + 1, ended.steps)),
            done=done,
            broken=broken,
            by_length=by_length,
            states=state.states if last else self.scoring.advance(state.states, rows),
        )

    def _detected(self, step: Tensor, by_length: Tensor) -> Tensor:
        """Groups (G,) that ESPnet's end detection stops at a step."""
        index = step - self.rules.options.end_detection - torch.arange(END_LENGTHS, device=step.device)
        recent = by_length.index_select(1, index.clamp(min=0))
        worst, some = recent.amax(1), recent.amin(1) > NEVER
        return (index[-1] >= 0) & some & (worst - by_length.amax(1) < END_MARGIN)


def _first(live: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Where the live ones of (G, W) continuations lie, K (``beam``) at most, as (G, K); and which of those K there are."""
    index = torch.arange(live.size(1), device=live.device)
    kept = torch.where(live, index, len(index) - 1).topk(beam, dim=1, largest=False).values
    return kept, live.sum(1, keepdim=True) > index[:beam]


def _chosen(grown: Candidates, kept: Tensor) -> Candidates:
    """The continuations ``kept`` (G, K) of each group."""
    wide = kept.unsqueeze(2).expand(-1, -1, grown.tokens.size(2))
    return Candidates(
        score=grown.score.gather(1, kept),
        tokens=grown.tokens.gather(1, wide),
        lengths=grown.lengths.gather(1, kept),
        token_scores=grown.token_scores.gather(1, wide),
    )


def _with_room(ended: Ended, size: int) -> Ended:
    tokens, scores = padded(ended.tokens, 2, size), padded(ended.token_scores, 2, size)
    return replace(ended, tokens=tokens, token_scores=scores)
