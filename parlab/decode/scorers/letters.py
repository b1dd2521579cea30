"""CTC prefix scores where CTC writes characters and the decoder tokens of several characters.

A fill's words are spelled in CTC's characters, with a blank between two words: one before the first where a word stands on the left,
one after the last where a word stands on the right. A token of the decoder extends a row by all of its characters, and its score is
what they add to the log-probability of the prefix.

On CPU only the rows that have another character go on (``_spell``); on accelerators all rows read as many, so that nothing waits for the
host (``parlab/decode/scorers/letter_grid.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from parlab.decode.scorers import CandidateScorer, Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, PrefixState, Windows
from parlab.decode.scorers.letter_grid import LetterGrid, Spelled
from parlab.decode.search.plan import Plan
from parlab.text.spelling import NO_LETTER, Spelling

_CHUNK = 2**20  # candidates x frames that are spelled at once
_WIDE_CHUNK = 2**23  # ... on an accelerator


class Letters:
    """How tokens of the decoder are spelled. No dataclass: a graph of a search refers to it as to a model, and copies none of it.

    Args:
        table: (V, C) characters of each token, ``NO_LETTER`` after the last (``Spelling.letter_table``), on the host.
        space: id of the blank between words; -1 where CTC writes none.

    Attributes:
        frames: (V,) frames that a token's characters need at least: one each, and a blank between two that are alike. A blank
            between words may be there already.
    """

    def __init__(self, table: Tensor, space: int, device: torch.device | None = None):
        spoken = (table != NO_LETTER) & (table != space)
        again = spoken[:, 1:] & (table[:, 1:] == table[:, :-1])
        frames, letters = spoken.sum(1) + again.sum(1), (table != NO_LETTER).sum(1)
        most = torch.zeros(int(frames.max()) + 1 if len(table) else 1, dtype=torch.long)
        self._most = most.scatter_reduce_(0, frames, letters, "amax").cummax(0).values.tolist()
        self.table, self.frames = (x.to(device) for x in (table, frames))
        self.space = space

    def columns(self, width: int) -> int:
        """The most characters of a token that ``width`` frames may hold; vocabularies have runs of 64 dashes, too."""
        return int(self._most[min(width, len(self._most) - 1)])


@lru_cache(maxsize=4)
def letters_of(spelling: Spelling, device: torch.device) -> Letters:
    """How a head's characters spell the decoder's tokens, made once for a device."""
    return Letters(spelling.letter_table, spelling.space, device)


@dataclass(frozen=True)
class LetterState:
    """N rows: CTC's state after their characters; ``spaced`` (N,) where a blank between words, or nothing, came last."""

    ctc: PrefixState
    spaced: Tensor


class LetterScorer(CandidateScorer[LetterState]):
    """Increments of the CTC prefix log-probability by all characters of a token.

    Args:
        ctc: over the windows of G groups; neighbours and blank are CTC's characters.
        wide: whether all rows read as many characters; a window must have a frame then.
    """

    def __init__(self, ctc: CTCPrefixScorer, letters: Letters, wide: bool):
        self.ctc = ctc
        self.weight = ctc.weight
        self.letters = letters
        self.columns = letters.columns(ctc.width)
        self.grid = LetterGrid.of(ctc.windows, ctc.width) if wide else None
        self._closed = ctc.windows.right >= 0

    @staticmethod
    def of(windows: Windows, letters: Letters, weight: float) -> LetterScorer:
        """The scorer of windows, as the device of their posteriors wants it."""
        wide = windows.log_probs.device.type != "cpu"
        return LetterScorer(CTCPrefixScorer(windows, weight, width=max(windows.width, int(wide))), letters, wide)

    def fixed(self, plan: Plan) -> LetterScorer | None:
        return LetterScorer(self.ctc.fixed(plan), self.letters, wide=True) if self.ctc.width else None

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

    def totals(self, tokens: Sequence[Tensor], lengths: Tensor, group: Tensor) -> Tensor:
        """``total`` (N,) of rows with the windows ``group`` (N,): their first ``lengths`` (N,) of ``tokens``, each (N,)."""
        state = self.rows(group)
        if self.grid is None or not tokens:
            total = torch.where(lengths == 0, self.total(state), float("-inf"))
            rows = torch.arange(len(lengths), device=lengths.device)
            for i, column in enumerate(tokens):
                state = self.advance(state, Rows(rows, column, group))
                total = torch.where(lengths == i + 1, self.total(state), total)
            return total
        # All characters of a row, one after the other: a window holds no more than it has frames.
        ids = torch.stack(list(tokens), 1)
        counted = torch.arange(len(tokens), device=ids.device) < lengths.unsqueeze(1)
        letters = self.letters.table[ids][..., : self.columns].masked_fill(~counted.unsqueeze(2), NO_LETTER)
        spelled = Spelled.of(letters.flatten(1), self.letters.space, state.spaced)
        spelled = spelled.ended(self._closed[group], self.letters.space).cut(self.ctc.width)
        possible = spelled.fits & ((self.letters.frames[ids] <= self.ctc.width) | ~counted).all(1)
        return self.ctc.total(self.grid.spell(state.ctc, spelled)).masked_fill(~possible, float("-inf"))

    def advance(self, state: LetterState, rows: Rows) -> LetterState:
        return self._extended(_select(state, rows.parents), rows.tokens)

    def score(self, state: LetterState, candidates: Tensor, stop: Tensor) -> Tensor:
        ending = candidates == stop.unsqueeze(1)
        most = _CHUNK if self.grid is None else _WIDE_CHUNK
        step = max(1, most // max(1, candidates.size(1) * max(self.ctc.width, 1)))
        parts = []
        for rows in torch.arange(len(candidates), device=candidates.device).split(step):
            parents = rows.unsqueeze(1).expand(-1, candidates.size(1)).flatten()
            grown = self._extended(_select(state, parents), candidates[rows].flatten(), ending[rows].flatten())
            parts.append(grown.ctc.score.view(len(rows), -1))
        psi = torch.cat(parts) if parts else torch.zeros_like(candidates, dtype=torch.float64)
        psi = torch.where(ending, self.total(state).unsqueeze(1), psi)
        return (psi - state.ctc.score.unsqueeze(1)).nan_to_num(nan=float("-inf"), neginf=float("-inf")).float()

    def _extended(self, state: LetterState, tokens: Tensor, but: Tensor | None = None) -> LetterState:
        """The state after one more of ``tokens`` (N,), ``but`` (N,) for some rows, which stay as they are."""
        ids = self.letters.table[tokens]
        if self.grid is not None:  # what no window can hold is not read to its end
            ids = ids[:, : self.columns]
            lost = self.letters.frames[tokens] > self.ctc.width
            lost = (lost if but is None else lost & ~but).unsqueeze(1)
            token, blank = (x.masked_fill(lost, float("-inf")) for x in (state.ctc.ends_token, state.ctc.ends_blank))
            state = replace(state, ctc=replace(state.ctc, ends_token=token, ends_blank=blank))
        return self._spell(state, ids if but is None else ids.masked_fill(but.unsqueeze(1), NO_LETTER))

    def _spell(self, state: LetterState, ids: Tensor) -> LetterState:
        """The state after characters ``ids`` (N, letters); a second blank in a row is none, nor is one at the very start."""
        ctc, spaced = state.ctc, state.spaced
        if self.grid is not None:
            spelled = Spelled.of(ids, self.letters.space, spaced)
            return LetterState(self.grid.spell(ctc, spelled), spelled.spaced)
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
