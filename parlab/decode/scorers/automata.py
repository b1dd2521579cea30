"""Phrases and n-grams as scorers of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.fused.automaton import Automaton
from parlab.decode.fused.phrases import Phrases
from parlab.decode.scorers import CandidateScorer, Rows, VocabularyScorer
from parlab.decode.search.plan import Plan


@dataclass(frozen=True)
class AutomatonState:
    """Of N rows: the automaton's state, and the group."""

    node: Tensor
    group: Tensor

    @staticmethod
    def first(node: Tensor, copies: int) -> AutomatonState:
        """``copies`` rows for each of G groups, whose states are ``node`` (G,)."""
        group = torch.arange(len(node) * copies, device=node.device) // copies
        return AutomatonState(node[group], group)


@dataclass(frozen=True)
class PhraseState:
    """Of N rows: the automaton's state, the group, what the stop token would add, and what the newest token is still owed."""

    node: Tensor
    group: Tensor
    ending: Tensor
    owed: Tensor


@dataclass(frozen=True)
class PhraseScorer(VocabularyScorer[PhraseState]):
    """Boosts of phrases, which proposes no tokens of its own: the decoder ranks those that no phrase has.

    Attributes:
        first: (G,) state before each group's first token.
        after: (G, A) what follows a group's text: its stop token, then tokens that a phrase may reach into; ``lengths`` (G,)
            of them count.
        alone: (G,) what ``after`` would add whatever stood before it.
        copies: rows that a group starts with.
    """

    phrases: Phrases
    first: Tensor
    after: Tensor
    lengths: Tensor
    alone: Tensor
    weight: float
    falling: bool = False
    proposes: bool = False
    copies: int = 1

    def start(self) -> PhraseState:
        first = AutomatonState.first(self.first, self.copies)
        ending = self._ending(first.node, first.group)
        return PhraseState(first.node, first.group, ending, torch.zeros_like(ending))

    def score(self, state: PhraseState) -> tuple[Tensor, Tensor]:
        gains = self.phrases.all_gains(state.node).scatter(1, self.after[state.group, :1], state.ending.unsqueeze(1))
        return gains + state.owed.unsqueeze(1), gains.new_zeros(len(gains), 1)

    def advance(self, state: PhraseState, rows: Rows) -> PhraseState:
        before = state.node[rows.parents]
        node = self.phrases.step(before, rows.tokens)
        # A row that goes on after its stop token was given what ending would add: the difference comes with the next token.
        own = self.phrases.gains(before, rows.tokens.unsqueeze(1)).squeeze(1)
        went_on = rows.tokens == self.after[rows.group, 0]
        owed = torch.where(went_on, own - state.ending[rows.parents], 0.0)
        return PhraseState(node, rows.group, self._ending(node, rows.group), owed)

    def _ending(self, node: Tensor, group: Tensor) -> Tensor:
        """What the stop token adds (N,): it ends the text, and what follows it is known."""
        return self.phrases.along(node, self.after[group], self.lengths[group])[0] - self.alone[group]

    def fixed(self, plan: Plan) -> PhraseScorer:
        parts = {name: getattr(self, name)[plan.source] for name in ("first", "after", "lengths", "alone")}
        return replace(self, copies=plan.beam, **parts)


@dataclass(frozen=True)
class NgramScorer(CandidateScorer[AutomatonState]):
    """Log-probabilities of n-grams, for the candidates that the decoder ranks first.

    Attributes:
        first: (G,) state before each group's first token.
        copies: rows that a group starts with.
    """

    ngrams: Automaton
    first: Tensor
    weight: float
    copies: int = 1

    def start(self) -> AutomatonState:
        return AutomatonState.first(self.first, self.copies)

    def score(self, state: AutomatonState, candidates: Tensor, stop: Tensor) -> Tensor:
        return self.ngrams.gains(state.node, candidates)

    def advance(self, state: AutomatonState, rows: Rows) -> AutomatonState:
        return AutomatonState(self.ngrams.step(state.node[rows.parents], rows.tokens), rows.group)

    def fixed(self, plan: Plan) -> NgramScorer | None:
        if self.ngrams.on_host:
            return None
        return replace(self, first=self.first[plan.source], copies=plan.beam)
