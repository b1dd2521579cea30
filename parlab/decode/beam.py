"""Beam search over rows: the same search for AR (a group per utterance) and PAR (a group per segment).

A group is one sequence to find: it ends with the group's stop token. Its live hypotheses are rows. All groups of all
utterances advance together, one token per step. On CPU rows that cannot beat what has ended are dropped, and the loop ends
when none is left; accelerators search in fixed shapes (``parlab/decode/search/fixed.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Candidates, Ended
from parlab.decode.scorers import AnyScorer, Rows
from parlab.decode.search.fixed import FixedSearch
from parlab.decode.search.groups import BeamOptions, Groups
from parlab.decode.search.mode import mode
from parlab.decode.search.rules import END_LENGTHS, END_MARGIN, Rules, Scoring

__all__ = ["BeamOptions", "Groups", "beam_search"]


def beam_search(scorers: Sequence[AnyScorer], groups: Groups, options: BeamOptions) -> Ended:
    """Search all groups at once.

    Args:
        scorers: at least one; vocabulary scorers choose the candidates, candidate scorers refine them.
        groups: G groups.
        options: beam, n-best and rules of ending.

    Returns:
        the n-best of each group; its scores are NaN where a score of the search was one (float16 may overflow).

    Raises:
        ValueError: no vocabulary scorer.
    """
    if mode().is_fixed(groups.stop.device) and len(groups.stop):
        fixed = FixedSearch.of(scorers, groups, options)
        if fixed is not None:
            return fixed.run(groups, mode().stepper(groups.stop.device))
    search = _Search(scorers, groups, options)
    for step in range(groups.steps):
        if not search.step(step):
            break
    return search.ended.with_broken(search.broken)


class _Search:
    """The state of a search: live rows as flat tensors, ended hypotheses as (G, E) tensors."""

    def __init__(self, scorers: Sequence[AnyScorer], groups: Groups, options: BeamOptions):
        count, device = len(groups.stop), groups.stop.device
        self.scoring = Scoring.of(scorers, options, device)
        self.rules = Rules.of(scorers, groups, options)
        self.groups, self.options = groups, options
        self.states = self.scoring.start()
        self.group = torch.arange(count, device=device)
        self.score = torch.zeros(count, device=device)
        self.tokens = torch.zeros(count, 0, dtype=torch.long, device=device)
        self.token_scores = torch.zeros(count, 0, device=device)
        self.done = torch.zeros(count, dtype=torch.bool, device=device)
        self.broken = torch.zeros_like(self.done)  # a score was NaN
        self.ended = Ended.none(count, options.nbest, device)
        self.by_length: list[Tensor] = []  # best ended score (G,) of each length, for end detection

    def step(self, step: int) -> bool:
        """Grow every live row by one token; return whether any row is left."""
        # 1. The K best continuations of each group, over all of its rows.
        ids, scores = self.scoring.candidates(self.states, self.groups.stop[self.group].unsqueeze(1))
        row, token, score = self._best_of_groups(ids, self.score.unsqueeze(1) + scores)
        self.broken = self.broken | score[:, 0].isnan()  # NaN comes before all numbers
        grown = Candidates(
            score=score,
            tokens=torch.cat([self.tokens[row], token.unsqueeze(2)], 2),
            lengths=torch.full_like(token, step + 1),
            token_scores=torch.cat([self.token_scores[row], (score - self.score[row]).unsqueeze(2)], 2),
        )
        # 2. Those that end; of the others those that cannot beat them are dropped.
        self.ended, live, now = self.rules.settle(grown, token, step, self.ended)
        finished = self._outranked(step, score, live) if self.options.refill else self._finished(step, now, score)
        live = live & ~finished.unsqueeze(1) & self.rules.unbeaten(score, self.ended)
        group, rank = live.nonzero(as_tuple=True)
        if len(group) == 0:
            return False
        # 3. The scorers advance with the rows that are left.
        rows = Rows(row[group, rank], token[group, rank], group)
        self.ended.steps[group] = step + 1
        self.group, self.score = group, score[group, rank]
        self.tokens, self.token_scores = grown.tokens[group, rank], grown.token_scores[group, rank]
        self.states = self.scoring.advance(self.states, rows)
        return True

    def _best_of_groups(self, candidates: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The K best continuations of each group (2 K with ``refill``): old row, token and score, each (G, K), best first."""
        count, beam = len(self.groups.stop), self.options.beam_size
        width = candidates.size(1)
        first = torch.searchsorted(self.group, torch.arange(count, device=self.group.device))
        rank = torch.arange(len(self.group), device=self.group.device) - first[self.group]
        grid = scores.new_full((count, beam, width), NEVER)
        grid[self.group, rank] = scores
        score, index = grid.view(count, beam * width).topk(min(self.options.width, beam * width), dim=1)
        row = (first.unsqueeze(1) + index // width).clamp(max=len(self.group) - 1)
        return row, candidates[row, index % width], score

    def _outranked(self, step: int, score: Tensor, live: Tensor) -> Tensor:
        """Groups (G,) that were outranked by now (``Rules.outranked``)."""
        self.done = self.done | self.rules.outranked(step, score, live, self.ended)
        return self.done

    def _finished(self, step: int, ended: Tensor, score: Tensor) -> Tensor:
        """Groups (G,) that ESPnet's end detection stops (e2e_asr_common.end_detect)."""
        if not self.options.end_detection:
            return self.done
        self.by_length.append(score.masked_fill(~ended, NEVER).amax(1))
        newest = step - self.options.end_detection
        recent = self.by_length[max(newest - END_LENGTHS + 1, 0) : max(newest + 1, 0)]
        if len(recent) == END_LENGTHS:
            worst = torch.stack(recent).amax(0)
            some = torch.stack(recent).amin(0) > NEVER
            best = torch.stack(self.by_length).amax(0)
            self.done = self.done | (some & (worst - best < END_MARGIN))
        return self.done
