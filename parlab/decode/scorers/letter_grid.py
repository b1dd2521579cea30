"""Characters read by all rows at once, for accelerators: as many for every row, whether it has them or not, so that nothing waits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers.ctc_prefix import IMPOSSIBLE, PrefixState, Windows
from parlab.text.spelling import NO_LETTER

NEVER = float("-inf")


@dataclass(frozen=True)
class Spelled:
    """Characters of N rows.

    Attributes:
        ids: (N, C) characters.
        read: (N, C) which of them are read: a second blank between words in a row is none, nor is one at the very start.
        spaced: (N,) where a blank between words, or nothing, came last.
        fits: (N,) false where characters were cut off.
    """

    ids: Tensor
    read: Tensor
    spaced: Tensor
    fits: Tensor

    @staticmethod
    def of(ids: Tensor, space: int, spaced: Tensor) -> Spelled:
        """The characters ``ids`` (N, C), with ``NO_LETTER`` between and after them, of rows that were ``spaced`` (N,) before."""
        given = ids != NO_LETTER
        blank = given & (ids == space)
        # The newest character before each one: a blank, or what the row had before.
        place = torch.where(given, torch.arange(1, ids.size(1) + 1, device=ids.device), 0).cummax(1).values
        so_far = torch.cat([spaced.unsqueeze(1), blank], 1).gather(1, torch.nn.functional.pad(place, (1, 0)))
        read = given & ~(blank & so_far[:, :-1])
        return Spelled(ids, read, so_far[:, -1], torch.ones_like(spaced))

    def ended(self, closed: Tensor, space: int) -> Spelled:
        """The same with a blank before the next word, where there is one (``closed`` (N,)) and no blank yet."""
        more = (closed & ~self.spaced).unsqueeze(1)
        ids = torch.cat([self.ids, torch.full_like(more, space, dtype=torch.long)], 1)
        return Spelled(ids, torch.cat([self.read, more], 1), self.spaced | closed, self.fits)

    def cut(self, most: int) -> Spelled:
        """The characters that are read, side by side, ``most`` of them at most."""
        size = min(most, self.ids.size(1))
        place = torch.where(self.read, self.read.long().cumsum(1) - 1, size).clamp(max=size)
        ids = self.ids.new_full((len(self.ids), size + 1), NO_LETTER).scatter(1, place, self.ids)[:, :size]
        return Spelled(ids, ids != NO_LETTER, self.spaced, self.fits & (self.read.sum(1) <= size))


@dataclass(frozen=True)
class LetterGrid:
    """CTC's log-posteriors of all characters over G windows of W frames, float64.

    Attributes:
        x: (G, V', W) of each frame; ``run`` and ``before`` are their sums with and without it.
        inside: (G, W) frames of a window.
        blank: id of CTC's blank.
    """

    x: Tensor
    run: Tensor
    before: Tensor
    inside: Tensor
    blank: int

    @staticmethod
    def of(windows: Windows, width: int) -> LetterGrid:
        """Of windows padded to ``width`` W, at least 1."""
        log_probs = windows.log_probs[windows.owner.unsqueeze(1), windows.frames(width)]
        x = log_probs.transpose(1, 2).double().clamp(min=IMPOSSIBLE).contiguous()
        run = x.cumsum(2)
        inside = torch.arange(width, device=x.device) < windows.length.unsqueeze(1)
        return LetterGrid(x, run, torch.nn.functional.pad(run[..., :-1], (1, 0)), inside, windows.blank)

    def spell(self, state: PrefixState, spelled: Spelled) -> PrefixState:
        """The state of N rows after more characters: the recursions of ``CTCPrefixScorer.advance``, character by character."""
        group, ids, read = state.group, spelled.ids, spelled.read
        token, blank = state.ends_token, state.ends_blank
        none = torch.full_like(token[:, :1], NEVER)
        run_blank, before_blank = self.run[group, self.blank], self.before[group, self.blank]
        repeated = ids == torch.cat([state.last.unsqueeze(1), ids[:, :-1]], 1)
        inflow = torch.full_like(token[:, 1:], NEVER)  # ways to the newest character, by the frame where it begins
        for j, letter in enumerate(ids.clamp(min=0).unbind(1)):
            now, same = read[:, j : j + 1], repeated[:, j : j + 1]
            phi = torch.where(same, blank, torch.logaddexp(token, blank))[:, :-1]
            inflow = torch.where(now, phi + self.x[group, letter], inflow)
            grown = self.run[group, letter] + torch.logcumsumexp(phi - self.before[group, letter], 1)
            grown = torch.cat([none, grown], 1)
            closed = run_blank + torch.logcumsumexp(grown[:, :-1] - before_blank, 1)
            token = torch.where(now, grown, token)
            blank = torch.where(now, torch.cat([none, closed], 1), blank)
        score = torch.logsumexp(torch.where(self.inside[group], inflow, NEVER), 1)
        place = torch.where(read, torch.arange(1, ids.size(1) + 1, device=ids.device), 0).amax(1, keepdim=True)
        last = torch.cat([state.last.unsqueeze(1), ids], 1).gather(1, place).squeeze(1)
        return PrefixState(token, blank, last, torch.where(place.squeeze(1) > 0, score, state.score), group)
