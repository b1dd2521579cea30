"""What the search that drops rows and the search in fixed shapes share: candidates, and when a hypothesis ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parlab.decode.ended import NEVER, Candidates, Ended
from parlab.decode.scorers import AnyScorer, CandidateScorer, Rows, VocabularyScorer
from parlab.decode.search.groups import BeamOptions, Groups
from parlab.transfer import numbers_on

States = tuple[Any, ...]  # each of its scorer's own type
END_MARGIN = -10.0  # ESPnet's end detection: nats below the best ended hypothesis
END_LENGTHS = 3  # ... for so many lengths in a row


@dataclass(frozen=True)
class Scoring:
    """The scorers of a search: vocabulary scorers choose candidates, candidate scorers refine them.

    Attributes:
        banned: ids that are never emitted, unless one is a row's stop token.
        wanted: candidates of a row beside the stop token; None is all tokens.
    """

    vocabulary: tuple[VocabularyScorer[Any], ...]
    refining: tuple[CandidateScorer[Any], ...]
    banned: Tensor
    wanted: int | None

    @staticmethod
    def of(scorers: Sequence[AnyScorer], options: BeamOptions, device: torch.device) -> Scoring:
        """The scorers by type.

        Raises:
            ValueError: no vocabulary scorer.
        """
        vocabulary = tuple(s for s in scorers if isinstance(s, VocabularyScorer))
        refining = tuple(s for s in scorers if isinstance(s, CandidateScorer))
        if not vocabulary:
            raise ValueError("a search needs a vocabulary scorer to propose candidates")
        [banned] = numbers_on(device, options.banned)
        wanted = int(options.width * options.pre_beam_ratio) if refining else options.width
        proposed = any(s.proposes and s.weight for s in vocabulary)
        return Scoring(vocabulary, refining, banned, wanted if proposed else None)

    @property
    def scorers(self) -> tuple[AnyScorer, ...]:
        """All of them, in the order of their states."""
        return (*self.vocabulary, *self.refining)

    def start(self) -> States:
        """The states before any token."""
        return tuple(scorer.start() for scorer in self.scorers)

    def advance(self, states: States, rows: Rows) -> States:
        """The states of the next step's rows."""
        return tuple(scorer.advance(state, rows) for scorer, state in zip(self.scorers, states, strict=True))

    def candidates(self, states: States, stop: Tensor) -> tuple[Tensor, Tensor]:
        """Candidates (N, C + 1) of each row, its ``stop`` token (N, 1) last, and their scores."""
        # 1. Every token is scored by the vocabulary scorers; a single one's normaliser is subtracted from the best only.
        logits, normalizer = self.vocabulary[0].score(states[0])
        weight = self.vocabulary[0].weight
        if len(self.vocabulary) > 1:
            logits, normalizer = (logits - normalizer) * weight, torch.zeros_like(normalizer)
            for scorer, state in zip(self.vocabulary[1:], states[1 : len(self.vocabulary)], strict=True):
                more, total = scorer.score(state)
                logits = logits + (more - total) * scorer.weight
            weight = 1.0
        # 2. Banned tokens are out, unless one of them is the row's stop token.
        at_stop = logits.gather(1, stop)
        if len(self.banned):
            logits.index_fill_(1, self.banned, NEVER)
            logits.scatter_(1, stop, at_stop)
        # 3. The best tokens and the stop token are the candidates; all tokens, where no vocabulary scorer has a weight.
        wanted = logits.size(1) if self.wanted is None else min(self.wanted, logits.size(1))
        top, ids = logits.topk(wanted, dim=1)
        top = top.masked_fill(ids == stop, NEVER)  # the stop token has a column of its own
        ids, top = torch.cat([ids, stop], 1), torch.cat([top, at_stop], 1)
        # 4. Candidate scorers refine the scores. A weight of 0 must not turn -inf into nan.
        scores = (top - normalizer) * weight
        if weight == 0:
            scores = torch.where(top > NEVER, scores, NEVER)
        for refiner, state in zip(self.refining, states[len(self.vocabulary) :], strict=True):
            refined = refiner.score(state, ids, stop.squeeze(1))
            scores = scores + refined * refiner.weight if refiner.weight != 0 else scores
        return ids, scores


@dataclass(frozen=True)
class Rules:
    """When hypotheses end, and which may be dropped.

    Attributes:
        falling: whether scores can only fall and are not averaged: dropping beaten rows is exact only then.
    """

    groups: Groups
    options: BeamOptions
    falling: bool

    @staticmethod
    def of(scorers: Sequence[AnyScorer], groups: Groups, options: BeamOptions) -> Rules:
        """The rules of a search with these scorers."""
        return Rules(groups, options, all(s.falling for s in scorers) and not options.normalize_length)

    def settle(
        self, grown: Candidates, token: Tensor, step: int | Tensor, ended: Ended
    ) -> tuple[Ended, Tensor, Tensor]:
        """End what ends in a step.

        Args:
            grown: the K best continuations, the newest ``token`` (G, K) included.
            step: number of the step, from 0.

        Returns:
            the ended hypotheses; the live continuations and those that have just ended, both (G, K).
        """
        groups, options = self.groups, self.options
        # 1. Those that emitted the stop token have ended; too early a stop ends a row without a result.
        valid = grown.score > NEVER
        stopped = valid & (token == groups.stop.unsqueeze(1))
        counts, live, full = stopped, valid & ~stopped, None
        if groups.extent is not None:
            counts, live, full = groups.extent.divide(grown.tokens, token, step, counts, live)
        may_end = live
        if options.refill:  # only those of the beam itself end; the next best take their places
            within = torch.arange(token.size(1), device=token.device) < options.beam_size
            counts, live = counts & within, live & (live.cumsum(1) <= options.beam_size)
            may_end = live & within
        if groups.min_length is not None:
            counts = counts & (step >= groups.min_length).unsqueeze(1)
        # 2. At the limit of length the stop token is appended unscored.
        at_limit = (step + 1 >= groups.max_length).unsqueeze(1)
        at_limit = at_limit if full is None else at_limit | full
        forced = may_end & at_limit
        if not options.force_all:
            none_ended = (ended.score[:, :1] == NEVER) & ~counts.any(1, keepdim=True)
            first = live.cumsum(1) == 1  # rows are sorted by score: the best live one
            forced = forced & first & none_ended
        now = counts | forced
        stops = 0 if options.refill else 1  # transformers does not count the one that is appended
        return ended.merge(grown, now, forced, options.normalize_length, stops), live & ~at_limit, now

    def outranked(self, step: int | Tensor, score: Tensor, live: Tensor, ended: Ended) -> Tensor:
        """Groups (G,) whose n-best have all ended, and rank as high as every live hypothesis (transformers' early stopping)."""
        return ended.beats(score.masked_fill(~live, NEVER).amax(1) / (step + 1))

    def unbeaten(self, score: Tensor, ended: Ended) -> Tensor:
        """Continuations (G, K) that may still beat what has ended."""
        if not self.falling:
            return torch.ones_like(score, dtype=torch.bool)
        bound = ended.score[:, -1]
        if self.groups.bound is not None:
            bound = torch.maximum(bound, self.groups.bound)
        return score > bound.unsqueeze(1)
