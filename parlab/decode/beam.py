"""Beam search over rows: the same search for AR (a group per utterance) and PAR (a group per segment).

A group is one sequence to find: it ends with the group's stop token. Its live hypotheses are rows. All groups of all
utterances advance together, one token per step. Rows that cannot beat what has ended are dropped, until none is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Candidates, Ended
from parlab.decode.scorers import AnyScorer, CandidateScorer, Rows, VocabularyScorer
from parlab.transfer import numbers_on, to_device

_END_MARGIN = -10.0  # ESPnet's end detection: nats below the best ended hypothesis
_END_LENGTHS = 3  # ... for so many lengths in a row


@dataclass(frozen=True)
class Groups:
    """The G sequences to find.

    Attributes:
        stop: (G,) token that ends a hypothesis of the group.
        max_length: (G,) tokens that a hypothesis may have, the stop token included when it is emitted.
        min_length: (G,) tokens before the stop token counts, or None.
        bound: (G,) score that a hypothesis must beat to matter (the draft's), or None.
        longest: the largest ``max_length``, where the host knows it.
    """

    stop: Tensor
    max_length: Tensor
    min_length: Tensor | None = None
    bound: Tensor | None = None
    longest: int | None = None

    @staticmethod
    def on_device(
        device: torch.device,
        stop: Tensor,
        max_length: Tensor,
        min_length: Tensor | None = None,
        bound: Tensor | None = None,
    ) -> Groups:
        """Groups whose numbers lie on the host, taken to the device by one copy; ``bound`` lies there already."""
        numbers = [stop, max_length] if min_length is None else [stop, max_length, min_length]
        moved = to_device(device, *numbers)
        longest = int(max_length.max()) if len(max_length) else 0
        return Groups(moved[0], moved[1], moved[2] if len(moved) > 2 else None, bound, longest)

    @property
    def steps(self) -> int:
        """Steps that a search takes at most."""
        if self.longest is not None:
            return self.longest
        return int(self.max_length.max()) if len(self.stop) else 0


@dataclass(frozen=True)
class BeamOptions:
    """Widths of a search, and its rules of ending.

    Attributes:
        beam_size: live hypotheses per group.
        nbest: ended hypotheses kept per group.
        banned: ids that are never emitted (unless one is the group's stop token).
        normalize_length: rank ended hypotheses by score per token, the stop token included.
        force_all: at ``max_length`` every live hypothesis ends (ESPnet's AR), not only the best one of a group
            that has none (PAR).
        end_detection: stop a group when three lengths in a row ended 10 nats below the best (ESPnet's AR). Its
            value is how many steps back the newest of the three lies: ESPnet compares lengths that count the
            prompt and ``<eos>`` with the number of steps, so it is the prompt's length plus one; 0 is off.
        pre_beam_ratio: candidates per row for candidate scorers, as a multiple of the beam.
        refill: transformers' beam: the next best take the places of those that end; a group is done when all ``nbest`` (at
            least the beam) have ended and none live ranks higher, by score per token (``normalize_length``).
    """

    beam_size: int
    nbest: int = 1
    banned: tuple[int, ...] = ()
    normalize_length: bool = False
    force_all: bool = False
    end_detection: int = 0
    pre_beam_ratio: float = 1.5
    refill: bool = False


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
    search = _Search(scorers, groups, options)
    for step in range(groups.steps):
        if not search.step(step):
            break
    ended = search.ended
    broken = search.broken.unsqueeze(1)
    return replace(ended, score=ended.score.masked_fill(broken, float("nan")), forced=ended.forced & ~broken)


class _Search:
    """The state of a search: live rows as flat tensors, ended hypotheses as (G, E) tensors."""

    def __init__(self, scorers: Sequence[AnyScorer], groups: Groups, options: BeamOptions):
        self.vocabulary = [s for s in scorers if isinstance(s, VocabularyScorer)]
        self.refining = [s for s in scorers if isinstance(s, CandidateScorer)]
        if not self.vocabulary:
            raise ValueError("a search needs a vocabulary scorer to propose candidates")
        self.groups, self.options = groups, options
        self.width = options.beam_size * (2 if options.refill else 1)  # with refill all of the beam may end
        [self.banned] = numbers_on(groups.stop.device, options.banned)
        # Dropping beaten rows is exact only while scores can but fall and are not averaged.
        self.falling = all(s.falling for s in scorers) and not options.normalize_length
        self.states: dict[int, Any] = {id(s): s.start() for s in scorers}  # each of its scorer's own type
        count, device = len(groups.stop), groups.stop.device
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
        groups, options = self.groups, self.options
        # 1. The K best continuations of each group, over all of its rows.
        ids, scores = self._candidates()
        row, token, score = self._best_of_groups(ids, scores)  # (G, K), or twice as many with refill
        self.broken = self.broken | score[:, 0].isnan()  # NaN comes before all numbers
        grown = Candidates(
            score=score,
            tokens=torch.cat([self.tokens[row], token.unsqueeze(2)], 2),
            lengths=torch.full_like(token, step + 1),
            token_scores=torch.cat([self.token_scores[row], (score - self.score[row]).unsqueeze(2)], 2),
        )
        # 2. Those that emitted the stop token have ended; too early a stop ends a row without a result.
        valid = score > NEVER
        stopped = valid & (token == groups.stop.unsqueeze(1))
        within = torch.arange(token.size(1), device=token.device) < options.beam_size
        counts = stopped & within
        if groups.min_length is not None:
            counts = counts & (step >= groups.min_length).unsqueeze(1)
        self.ended = self.ended.merge(grown.without_last(), counts, False, options.normalize_length)
        # 3. At the limit of length the stop token is appended unscored.
        live = valid & ~stopped
        if options.refill:
            live = live & (live.cumsum(1) <= options.beam_size)
        at_limit = step + 1 >= groups.max_length
        forced = live & within & at_limit.unsqueeze(1)
        if not options.force_all:
            # Rows are sorted by score: the best live one, where none has ended.
            forced = forced & (live.cumsum(1) == 1) & (self.ended.score[:, :1] == NEVER)
        self.ended = self.ended.merge(grown, forced, True, options.normalize_length, stops=0 if options.refill else 1)
        # 4. Rows that cannot beat what has ended are dropped.
        if options.refill:
            best = score.masked_fill(~live, NEVER).amax(1) / (step + 1)
            finished = self.done = self.done | self.ended.beats(best)
        else:
            finished = self._finished(step, counts | forced, score)
        live = live & ~at_limit.unsqueeze(1) & ~finished.unsqueeze(1)
        if self.falling:
            bound = self.ended.score[:, -1]
            if groups.bound is not None:
                bound = torch.maximum(bound, groups.bound)
            live = live & (score > bound.unsqueeze(1))
        group, rank = live.nonzero(as_tuple=True)
        if len(group) == 0:
            return False
        # 5. The scorers advance with the rows that are left.
        rows = Rows(row[group, rank], token[group, rank], group)
        self.ended.steps[group] = step + 1
        self.group, self.score = group, score[group, rank]
        self.tokens, self.token_scores = grown.tokens[group, rank], grown.token_scores[group, rank]
        for scorer in (*self.vocabulary, *self.refining):
            self.states[id(scorer)] = scorer.advance(self.states[id(scorer)], rows)
        return True

    def _candidates(self) -> tuple[Tensor, Tensor]:
        """Candidates (N, C + 1) of each row, the stop token last, and their summed scores."""
        # 1. Every token is scored by the vocabulary scorers; a single one's normaliser is subtracted from the best only.
        stop = self.groups.stop[self.group].unsqueeze(1)
        logits, normalizer = self.vocabulary[0].score(self.states[id(self.vocabulary[0])])
        weight = self.vocabulary[0].weight
        if len(self.vocabulary) > 1:
            logits, normalizer = (logits - normalizer) * weight, torch.zeros_like(normalizer)
            for scorer in self.vocabulary[1:]:
                more, total = scorer.score(self.states[id(scorer)])
                logits = logits + (more - total) * scorer.weight
            weight = 1.0
        # 2. Banned tokens are out, unless one of them is the row's stop token.
        at_stop = logits.gather(1, stop)
        if self.options.banned:
            logits.index_fill_(1, self.banned, NEVER)
            logits.scatter_(1, stop, at_stop)
        # 3. The best tokens and the stop token are the candidates; all tokens, where no vocabulary scorer has a weight.
        wanted = int(self.width * self.options.pre_beam_ratio) if self.refining else self.width
        if not any(s.proposes and s.weight for s in self.vocabulary):
            wanted = logits.size(1)
        top, ids = logits.topk(min(wanted, logits.size(1)), dim=1)
        top = top.masked_fill(ids == stop, NEVER)  # the stop token has a column of its own
        ids, top = torch.cat([ids, stop], 1), torch.cat([top, at_stop], 1)
        # 4. Candidate scorers refine the scores. A weight of 0 must not turn -inf into nan.
        scores = torch.where(top > NEVER, (top - normalizer) * weight, NEVER)
        for refiner in self.refining:
            refined = refiner.score(self.states[id(refiner)], ids, stop.squeeze(1))
            scores = scores + refined * refiner.weight if refiner.weight != 0 else scores
        return ids, self.score.unsqueeze(1) + scores

    def _best_of_groups(self, candidates: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The K best continuations of each group: old row, token and score, each (G, K), best first."""
        count, beam = len(self.groups.stop), self.options.beam_size
        width = candidates.size(1)
        first = torch.searchsorted(self.group, torch.arange(count, device=self.group.device))
        rank = torch.arange(len(self.group), device=self.group.device) - first[self.group]
        grid = scores.new_full((count, beam, width), NEVER)
        grid[self.group, rank] = scores
        score, index = grid.view(count, beam * width).topk(min(self.width, beam * width), dim=1)
        row = (first.unsqueeze(1) + index // width).clamp(max=len(self.group) - 1)
        return row, candidates[row, index % width], score

    def _finished(self, step: int, ended: Tensor, score: Tensor) -> Tensor:
        """Groups (G,) that ESPnet's end detection stops (e2e_asr_common.end_detect)."""
        if not self.options.end_detection:
            return self.done
        self.by_length.append(score.masked_fill(~ended, NEVER).amax(1))
        newest = step - self.options.end_detection
        recent = self.by_length[max(newest - _END_LENGTHS + 1, 0) : max(newest + 1, 0)]
        if len(recent) == _END_LENGTHS:
            worst = torch.stack(recent).amax(0)
            some = torch.stack(recent).amin(0) > NEVER
            best = torch.stack(self.by_length).amax(0)
            self.done = self.done | (some & (worst - best < _END_MARGIN))
        return self.done
