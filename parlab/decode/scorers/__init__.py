"""Scorers of a search over rows.

A scorer keeps a state for the live rows and is one of two types:

* a ``VocabularyScorer`` gives every token of the vocabulary a score (attention, language model);
* a ``CandidateScorer`` scores only the candidates that the vocabulary scorers left (CTC prefix, length).

Both have three methods: ``start`` (one row per group), ``score``, and ``advance`` (to the rows of the next step: the old
row that each comes from, and the token it appends). A new scorer is one file. With two more, ``fixed`` and ``with_room``, it can
be searched in fixed shapes, as accelerators need it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from parlab.decode.search.plan import Plan


@dataclass(frozen=True)
class Rows:
    """The rows of the next step: ``parents`` (N,) rows of the last one, ``tokens`` (N,) appended, ``group`` (N,)."""

    parents: Tensor
    tokens: Tensor
    group: Tensor


State = TypeVar("State")


class Scorer(ABC, Generic[State]):
    """The interface of both types. ``weight`` multiplies the scores; scores are log-probabilities (<= 0) if ``falling``."""

    weight: float
    falling: bool = True

    @abstractmethod
    def start(self) -> State:
        """State of one row per group, before any token."""

    @abstractmethod
    def advance(self, state: State, rows: Rows) -> State:
        """State of the next step's rows."""

    def fixed(self, plan: Plan) -> Scorer[State] | None:
        """The scorer of a plan's slots, whose ``start`` has K rows per slot and whose states keep their shapes.

        None: it has none, so that a search with it drops rows on every device.
        """
        return None

    def with_room(self, state: State, size: int) -> State:
        """The state of a ``fixed`` scorer with room for ``size`` tokens per row."""
        return state


class VocabularyScorer(Scorer[State]):
    """Scores every token. One that only forbids tokens does not ``propose``: it does not rank the others."""

    proposes: bool = True

    @abstractmethod
    def score(self, state: State) -> tuple[Tensor, Tensor]:
        """Unnormalised log-probabilities (N, V), and their normaliser (N, 1) to subtract."""


class CandidateScorer(Scorer[State]):
    """Scores candidates only."""

    @abstractmethod
    def score(self, state: State, candidates: Tensor, stop: Tensor) -> Tensor:
        """Scores (N, C) of appending ``candidates`` (N, C); where one is the row's ``stop`` (N,), of ending."""


AnyScorer = Scorer[Any]
"""A scorer in a list of scorers, each of which has a state of its own type."""
