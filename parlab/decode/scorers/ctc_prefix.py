"""CTC prefix scores over windows of frames, batched over rows.

Watanabe et al. 2017 (Hybrid CTC/attention, algorithm 2) loops over frames for every candidate. Two
observations make it cheap:

* the prefix probability of a candidate c needs no recursion: psi(h c) = sum_t phi(t - 1, c) x(t, c), a
  single log-sum-exp over the forward variables of h;
* only the rows that survive need their own forward variables, and those are first-order linear
  recurrences, which ``logcumsumexp`` solves at once: with X(t) the running product of x, r(t) / X(t) is a
  running sum.

The arithmetic is in float64, because running products of posteriors span thousands of nats.

A window is the whole utterance for AR search. For a segment of PAR it runs from the end of the left
neighbour's run to the start of the right neighbour's, so that the first token of a fill needs a blank before
it where it equals the left neighbour, and the last one a blank after it where it equals the right one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.scorers import CandidateScorer, Rows
from parlab.decode.search.plan import Plan, bucket
from parlab.transfer import to_device

IMPOSSIBLE = -1.0e3  # nats: below any posterior that matters, small enough that sums keep their precision
_CHUNK = 2**22  # candidates x frames that are gathered at once


@dataclass(frozen=True)
class Windows:
    """Windows of frames of G groups.

    They are made on the host; the scorer takes them to the device of the log-posteriors.

    Attributes:
        log_probs: (B, T, V) log-posteriors of the utterances.
        owner: (G,) utterance of each window.
        first, length: (G,) first frame, and frames.
        left, right: (G,) ids of the tokens on both sides, -1 where there is none.
        blank: id of CTC's blank.
    """

    log_probs: Tensor
    owner: Tensor
    first: Tensor
    length: Tensor
    left: Tensor
    right: Tensor
    blank: int

    @staticmethod
    def whole(log_probs: Tensor, lengths: Tensor, blank: int) -> Windows:
        """One window per utterance, without neighbours."""
        owner = torch.arange(len(lengths), device=lengths.device)
        none = torch.full_like(lengths, -1)
        return Windows(log_probs, owner, torch.zeros_like(lengths), lengths, none, none, blank)

    @property
    def width(self) -> int:
        """Frames of the longest window."""
        return int(self.length.max()) if len(self.length) else 0

    def on_device(self) -> Windows:
        """The windows where the log-posteriors are, by one copy."""
        if self.owner.device == self.log_probs.device:
            return self
        numbers = (self.owner, self.first, self.length, self.left, self.right)
        owner, first, length, left, right = to_device(self.log_probs.device, *numbers)
        return replace(self, owner=owner, first=first, length=length, left=left, right=right)

    def frames(self, width: int) -> Tensor:
        """Frame at each position (G, W) of windows padded to ``width`` W; positions past a window repeat its last frame."""
        position = torch.arange(width, device=self.first.device)
        position = torch.minimum(position, (self.length - 1).clamp(min=0).unsqueeze(1))
        return (self.first.unsqueeze(1) + position).clamp(max=self.log_probs.size(1) - 1)


@dataclass(frozen=True)
class PrefixState:
    """Forward variables of N rows: ``ends_token`` and ``ends_blank`` (N, W + 1), column 0 before the window.

    ``last`` (N,) is the newest token (or the left neighbour), ``score`` (N,) the prefix log-probability.
    """

    ends_token: Tensor
    ends_blank: Tensor
    last: Tensor
    score: Tensor
    group: Tensor


class CTCPrefixScorer(CandidateScorer[PrefixState]):
    """Increments of the CTC prefix log-probability within each group's window.

    With a ``margin`` above 0, a candidate is looked for only so many frames around the frame where the row's newest token
    most probably ends (Seki et al. 2019 window the search likewise); 0 looks everywhere.
    """

    def __init__(self, windows: Windows, weight: float, margin: int = 0, width: int | None = None, copies: int = 1):
        """
        Args:
            width: W, where the windows do not lie on the host; None: that of the longest.
            copies: rows that a group starts with.
        """
        self.width = windows.width if width is None else width
        self.windows = windows.on_device()
        self.weight = weight
        self.margin = margin
        self.copies = copies
        self._frames = self.windows.frames(self.width)  # (G, W)
        groups = torch.arange(len(windows.owner), device=self._frames.device)
        self._blank = self._posteriors(groups, windows.blank)
        past = torch.arange(self.width, device=groups.device) >= self.windows.length.unsqueeze(1)
        self._outside = torch.zeros_like(self._blank).masked_fill_(
            past, float("-inf")
        )  # (G, W), added to ways into a frame

    def _posteriors(self, group: Tensor, tokens: Tensor | int) -> Tensor:
        """log x(t, c) over each row's window (N, W), float64."""
        frames = self._frames[group]
        ids = tokens.unsqueeze(1).expand_as(frames) if isinstance(tokens, Tensor) else torch.full_like(frames, tokens)
        picked = self.windows.log_probs[self.windows.owner[group].unsqueeze(1), frames, ids]
        return picked.double().clamp(min=IMPOSSIBLE)

    def start(self) -> PrefixState:
        w = self.windows
        groups = len(w.owner)
        empty = self._blank.new_full((groups, 1), float("-inf"))
        zero = torch.zeros_like(empty)
        anchored = (w.left >= 0).unsqueeze(1)
        # Before the window stands the left neighbour's token, or nothing (as after a blank).
        token = torch.where(anchored, zero, empty)
        blank = torch.where(anchored, empty, zero)
        run = self._blank.cumsum(1)  # an empty prefix: blanks only
        ends_token = torch.cat([token, empty.expand_as(run)], 1)
        ends_blank = torch.cat([blank, run], 1)
        group = torch.arange(groups * self.copies, device=w.owner.device) // self.copies
        if self.copies > 1:
            return PrefixState(ends_token[group], ends_blank[group], w.left[group], zero.squeeze(1)[group], group)
        return PrefixState(ends_token, ends_blank, w.left, zero.squeeze(1), group)

    def rows(self, group: Tensor) -> PrefixState:
        """The state of rows of the groups ``group`` (N,), before any token."""
        state = self.start()
        return PrefixState(
            state.ends_token[group], state.ends_blank[group], state.last[group], state.score[group], group
        )

    def total(self, state: PrefixState) -> Tensor:
        """Log-probability (N,) that the window holds exactly the row's tokens."""
        end = self.windows.length[state.group].unsqueeze(1)
        token, blank = state.ends_token.gather(1, end), state.ends_blank.gather(1, end)
        needs_blank = (state.last == self.windows.right[state.group]) & (state.last >= 0)
        token = token.masked_fill(needs_blank.unsqueeze(1), float("-inf"))
        return torch.logaddexp(token, blank).squeeze(1)

    def prefix(self, state: PrefixState, candidates: Tensor) -> Tensor:
        """log psi (N, C): the probability that the window starts with the row's tokens and the candidate."""
        width = self._frames.size(1)
        if width == 0:
            return candidates.new_full(candidates.shape, float("-inf"), dtype=torch.float64)
        # 1. Forward variables before each frame: after any way, or (for a repeated token) after a blank only.
        outside = self._outside[state.group]
        both = torch.logaddexp(state.ends_token, state.ends_blank)[:, :-1] + outside
        alone = state.ends_blank[:, :-1] + outside
        owner = self.windows.owner[state.group]
        frames = self._frames[state.group]
        # 2. With a margin only the frames around the newest token's most probable end count.
        if self.margin > 0 and 2 * self.margin + 1 < width:
            width = 2 * self.margin + 1
            latest = self.windows.length[state.group] - width  # in the row's own window, however wide the batch's is
            first = torch.minimum(both.argmax(1) - self.margin, latest).clamp(min=0)
            near = first.unsqueeze(1) + torch.arange(width, device=candidates.device)
            both, alone, frames = both.gather(1, near), alone.gather(1, near), frames.gather(1, near)
        # 3. psi is one log-sum-exp over frames; candidates go through in parts of bounded memory.
        step = max(1, _CHUNK // max(1, len(candidates) * width))
        parts = []
        for ids in candidates.split(step, dim=1):
            x = self.windows.log_probs[owner[:, None, None], frames[:, None, :], ids[:, :, None]].double()
            phi = torch.where((ids == state.last.unsqueeze(1)).unsqueeze(2), alone.unsqueeze(1), both.unsqueeze(1))
            parts.append(torch.logsumexp(phi + x.clamp(min=IMPOSSIBLE), dim=2))
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)).masked_fill(
            candidates == self.windows.blank, float("-inf")
        )

    def score(self, state: PrefixState, candidates: Tensor, stop: Tensor) -> Tensor:
        ending = candidates == stop.unsqueeze(1)
        psi = torch.where(ending, self.total(state).unsqueeze(1), self.prefix(state, candidates))
        return (psi - state.score.unsqueeze(1)).nan_to_num(nan=float("-inf"), neginf=float("-inf")).float()

    def fixed(self, plan: Plan) -> CTCPrefixScorer:
        w = self.windows
        owner, first, length, left, right = (x[plan.source] for x in (w.owner, w.first, w.length, w.left, w.right))
        windows = Windows(w.log_probs, owner, first, length, left, right, w.blank)
        return CTCPrefixScorer(windows, self.weight, self.margin, bucket(self.width), plan.beam)

    def advance(self, state: PrefixState, rows: Rows) -> PrefixState:
        group = rows.group
        token, blank = (x.index_select(0, rows.parents) for x in (state.ends_token, state.ends_blank))
        last = state.last[rows.parents]
        score = self.prefix(PrefixState(token, blank, last, state.score[rows.parents], group), rows.tokens.unsqueeze(1))
        x, b = self._posteriors(group, rows.tokens), self._blank[group]
        repeated = (rows.tokens == last).unsqueeze(1)
        phi = torch.where(repeated, blank, torch.logaddexp(token, blank))
        ends_token = _recurrence(phi, x)
        ends_blank = _recurrence(ends_token, b)
        return PrefixState(ends_token, ends_blank, rows.tokens, score.squeeze(1), group)


def _recurrence(inflow: Tensor, factor: Tensor) -> Tensor:
    """r(0) = -inf, r(t) = logaddexp(r(t - 1), inflow(t - 1)) + factor(t): (N, W + 1) and (N, W) to (N, W + 1)."""
    if factor.size(1) == 0:
        return torch.full_like(inflow, float("-inf"))
    run = factor.cumsum(1)
    before = torch.nn.functional.pad(run[:, :-1], (1, 0))
    r = run + torch.logcumsumexp(inflow[:, :-1] - before, dim=1)
    return torch.nn.functional.pad(r, (1, 0), value=float("-inf"))
