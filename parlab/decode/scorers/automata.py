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
class PhraseScorer(VocabularyScorer[AutomatonState]):
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

    def start(self) -> AutomatonState:
        return AutomatonState.first(self.first, self.copies)

    def score(self, state: AutomatonState) -> tuple[Tensor, Tensor]:
        gains = self.phrases.all_gains(state.node)
        # The stop token ends the text: what then follows it is known.
        after, lengths = self.after[state.group], self.lengths[state.group]
        ending = self.phrases.along(state.node, after, lengths)[0] - self.alone[state.group]
        return gains.scatter(1, after[:, :1], ending.unsqueeze(1)), gains.new_zeros(len(gains), 1)

    def advance(self, state: AutomatonState, rows: Rows) -> AutomatonState:
        return AutomatonState(self.phrases.step(state.node[rows.parents], rows.tokens), rows.group)

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

    def fixed(self, plan: Plan) -> NgramScorer:
        return replace(self, first=self.first[plan.source], copies=plan.beam)
