"""CTC prefix scores where CTC writes characters and the decoder tokens of several characters.

A fill's words are spelled in CTC's characters, with a blank between two words: one before the first where a word stands on the left,
one after the last where a word stands on the right. A token of the decoder extends a row by all of its characters, and its score is
what they add to the log-probability of the prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers import CandidateScorer, Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, PrefixState, Windows
from parlab.text.spelling import NO_LETTER

_CHUNK = 2**20  # candidates x frames that are spelled at once


@dataclass(frozen=True)
class Letters:
    """How tokens of the decoder are spelled.

    Attributes:
        table: (V, C) characters of each token, ``NO_LETTER`` after the last (``Spelling.letter_table``).
        space: id of the blank between words; -1 where CTC writes none.
    """

    table: Tensor
    space: int


@dataclass(frozen=True)
class LetterState:
    """N rows: CTC's state after their characters; ``spaced`` (N,) where a blank between words, or nothing, came last."""

    ctc: PrefixState
    spaced: Tensor


class LetterScorer(CandidateScorer[LetterState]):
    """Increments of the CTC prefix log-probability by all characters of a token.

    Args:
        windows: of G groups; neighbours and blank are CTC's characters.
    """

    def __init__(self, windows: Windows, letters: Letters, weight: float):
        self.ctc = CTCPrefixScorer(windows, weight)
        self.weight = weight
        self.letters = letters
        self._closed = self.ctc.windows.right >= 0

    def start(self) -> LetterState:
        state = self.ctc.start()
        return LetterState(state, state.last < 0)

    def rows(self, group: Tensor) -> LetterState:
        """The state of rows of the groups ``group`` (N,), before any token."""
        state = self.ctc.rows(group)
        return LetterState(state, state.last < 0)

    def total(self, state: LetterState) -> Tensor:
        """Log-probability (N,) that the window holds exactly the rows' words, and a blank before the word on the right."""
        open_ = self._closed[state.ctc.group] & ~state.spaced
        ids = torch.where(open_, self.letters.space, NO_LETTER).unsqueeze(1)
        return self.ctc.total(self._spell(state, ids).ctc)

    def advance(self, state: LetterState, rows: Rows) -> LetterState:
        return self._spell(_select(state, rows.parents), self.letters.table[rows.tokens])

    def score(self, state: LetterState, candidates: Tensor, stop: Tensor) -> Tensor:
        ending = candidates == stop.unsqueeze(1)
        ids = self.letters.table[candidates].masked_fill(ending.unsqueeze(2), NO_LETTER)  # (N, C, letters)
        step = max(1, _CHUNK // max(1, candidates.size(1) * max(self.ctc.width, 1)))
        parts = [self._prefix(state, rows, ids[rows]) for rows in torch.arange(len(ids), device=ids.device).split(step)]
        psi = torch.cat(parts) if parts else torch.zeros_like(candidates, dtype=torch.float64)
        psi = torch.where(ending, self.total(state).unsqueeze(1), psi)
        return (psi - state.ctc.score.unsqueeze(1)).nan_to_num(nan=float("-inf"), neginf=float("-inf")).float()

    def _prefix(self, state: LetterState, rows: Tensor, ids: Tensor) -> Tensor:
        """log psi (n, C) of the rows ``rows`` (n,), each with each of its candidates' characters ``ids`` (n, C, letters)."""
        parents = rows.unsqueeze(1).expand(ids.shape[:2]).flatten()
        return self._spell(_select(state, parents), ids.flatten(0, 1)).ctc.score.view(ids.shape[:2])

    def _spell(self, state: LetterState, ids: Tensor) -> LetterState:
        """The state after characters ``ids`` (N, letters); a second blank in a row is none, nor is one at the very start."""
        ctc, spaced = state.ctc, state.spaced
        # A vocabulary may hold a token of many characters (dashes, say) that is in no row.
        longest = int((ids != NO_LETTER).sum(1).max()) if len(ids) else 0
        for column in ids[:, :longest].unbind(1):
            given = column != NO_LETTER
            blank = column == self.letters.space
            [moved] = (given & ~(blank & spaced)).nonzero(as_tuple=True)
            if len(moved):
                grown = self.ctc.advance(ctc, Rows(moved, column[moved], ctc.group[moved]))
                ctc = _put(ctc, moved, grown)
            spaced = torch.where(given, blank, spaced)
        return LetterState(ctc, spaced)


def _select(state: LetterState, rows: Tensor) -> LetterState:
    ctc = state.ctc
    parts = (ctc.ends_token, ctc.ends_blank, ctc.last, ctc.score, ctc.group)
    return LetterState(PrefixState(*(x[rows] for x in parts)), state.spaced[rows])


def _put(ctc: PrefixState, rows: Tensor, new: PrefixState) -> PrefixState:
    """The state with other values in some rows."""
    if len(rows) == len(ctc.last):
        return new
    pairs = zip(
        (ctc.ends_token, ctc.ends_blank, ctc.last, ctc.score, ctc.group),
        (new.ends_token, new.ends_blank, new.last, new.score, new.group),
        strict=True,
    )
    return PrefixState(*(old.index_copy(0, rows, value) for old, value in pairs))
