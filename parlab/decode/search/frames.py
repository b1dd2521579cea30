"""CTC prefix beam search frame by frame: a frame's step, and a search in fixed shapes that takes several frames at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from parlab.decode.ended import NEVER
from parlab.decode.fused.automaton import Automaton
from parlab.decode.search.plan import bucket, padded

_TOGETHER = 8  # frames of one step


@dataclass(frozen=True)
class Automata:
    """What a beam counts beside CTC's probability: automata over CTC's tokens, each with a weight.

    Attributes:
        stop: the token that ends a text.
        counted: whether a hypothesis's score counts it, or only the search does.
    """

    parts: tuple[Automaton, ...] = ()
    weights: tuple[float, ...] = ()
    stop: int = 0
    counted: bool = True

    def begin(self, batch: int, beam: int, device: torch.device) -> Tensor:
        """The states (B, K, A) before any token."""
        begins = [torch.full((batch, beam), automaton.begin, device=device) for automaton in self.parts]
        return torch.stack(begins, 2) if begins else torch.zeros(batch, beam, 0, dtype=torch.long, device=device)

    def gains(self, states: Tensor, token: Tensor) -> Tensor:
        """What tokens (B, K, C) add after ``states`` (B, K, A): (B, K, C)."""
        total = torch.zeros(token.shape, device=token.device)
        for i, (automaton, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            gain = automaton.gains(states[..., i].flatten(), token.flatten(0, 1))
            total = total + weight * gain.view(token.shape)
        return total

    def step(self, states: Tensor, token: Tensor, extends: Tensor) -> Tensor:
        """The states (B, K, A) after a token (B, K), which only prefixes that it ``extends`` (B, K) read."""
        moved = [
            torch.where(
                extends, automaton.step(states[..., i].flatten(), token.flatten()).view(token.shape), states[..., i]
            )
            for i, automaton in enumerate(self.parts)
        ]
        return torch.stack(moved, 2) if moved else states

    def ending(self, beam: Beam) -> Tensor:
        """What was added (B, K) to the prefixes, their ends included."""
        if not self.parts:
            return beam.added
        stop = torch.full_like(beam.last, self.stop).unsqueeze(2)
        return beam.added + self.gains(beam.states, stop).squeeze(2)


NO_AUTOMATA = Automata()


@dataclass(frozen=True)
class Beam:
    """The live prefixes, each (B, K).

    Attributes:
        ends_blank, ends_token: log-probability of the ways that end with a blank, or with the last token.
        last: the last token, or -1.
        name: a hash of the tokens (64 bits), so that equal prefixes are found by comparing numbers.
        added: what is counted beside CTC's probability.
        states: (B, K, A) of the automata that count it.
    """

    ends_blank: Tensor
    ends_token: Tensor
    last: Tensor
    name: Tensor
    added: Tensor
    states: Tensor

    @staticmethod
    def empty(batch: int, beam: int, like: Tensor, automata: Automata) -> Beam:
        """The empty prefix, and unused slots whose names differ."""
        ends_blank = like.new_full((batch, beam), NEVER)
        ends_blank[:, 0] = 0.0
        last = torch.full((batch, beam), -1, dtype=torch.long, device=like.device)
        name = torch.arange(beam, device=like.device).expand(batch, beam).contiguous() - beam
        name[:, 0] = 1
        states = automata.begin(batch, beam, like.device)
        return Beam(ends_blank, torch.full_like(ends_blank, NEVER), last, name, torch.zeros_like(ends_blank), states)

    def where(self, live: Tensor, other: Beam) -> Beam:
        """This beam for the utterances that are ``live`` (B, 1), the other for the rest."""

        def chosen(name: str) -> Tensor:
            own: Tensor = getattr(self, name)
            if own is getattr(other, name):
                return own
            return torch.where(live.view(-1, *[1] * (own.dim() - 1)), own, getattr(other, name))

        return Beam(*(chosen(f.name) for f in fields(self)))


def grow(old: Beam, frame: Sequence[Tensor], automata: Automata) -> tuple[Beam, Tensor, Tensor]:
    """One frame: its log-posteriors (B, V), those of the blank (B,), and those of the best tokens (B, C) with their ids (B, C).

    Returns:
        the new beam; which old prefix each new one came from, and the token it appended or -1, both (B, K).
    """
    log_probs, at_blank, best, ids = frame
    batch, beam = old.last.shape
    count = ids.size(1)
    # 1. Prefixes that stay: a blank follows, or the last token goes on.
    whole = torch.logaddexp(old.ends_blank, old.ends_token)
    stay_blank = whole + at_blank.unsqueeze(1)
    same = log_probs.gather(1, old.last.clamp(min=0)).masked_fill(old.last < 0, NEVER)
    stay_token = old.ends_token + same
    # 2. Extensions (B, K, C): from all ways, or only from those that end with a blank where the token repeats.
    token = ids.unsqueeze(1).expand(batch, beam, count)
    start = torch.where(token == old.last.unsqueeze(2), old.ends_blank.unsqueeze(2), whole.unsqueeze(2))
    grown = start + best.unsqueeze(1)
    name = old.name.unsqueeze(2) * 6364136223846793005 + (token + 1442695040888963407)
    # 3. An extension that is already in the beam adds its probability there; a prefix is the extension of one other at most.
    known = name.flatten(1).unsqueeze(2) == old.name.unsqueeze(1)  # (B, K C, K)
    added = torch.where(known, grown.flatten(1).unsqueeze(2), NEVER).amax(1)
    stay_token = torch.logaddexp(stay_token, added)
    grown = grown.flatten(1).masked_fill(known.any(2), NEVER)
    # 4. The K best of both, with what is added.
    score = torch.cat([torch.logaddexp(stay_blank, stay_token), grown], 1)
    gained = None
    if automata.parts:
        gained = torch.cat([old.added, (old.added.unsqueeze(2) + automata.gains(old.states, token)).flatten(1)], 1)
    index = (score if gained is None else score + gained).topk(beam, dim=1).indices
    extends = index >= beam
    parent = torch.where(extends, (index - beam) // count, index)
    extension = (index - beam).clamp(min=0)
    new = token.flatten(1).gather(1, extension)
    # Where fewer prefixes live than the beam is wide, an impossible one fills a slot. It must not have the name of a prefix that
    # may be found later: two slots of one name would both grow.
    unused = torch.isneginf(score.gather(1, index))
    spare = torch.arange(beam, device=index.device) - beam
    states = old.states
    if automata.parts:
        states = automata.step(states.gather(1, parent.unsqueeze(2).expand(-1, -1, states.size(2))), new, extends)
    following = Beam(
        ends_blank=torch.where(extends, NEVER, stay_blank.gather(1, parent)),
        ends_token=torch.where(extends, score.gather(1, index), stay_token.gather(1, parent)),
        last=torch.where(extends, new, old.last.gather(1, parent)).masked_fill(unused, -1),
        name=torch.where(
            unused, spare, torch.where(extends, name.flatten(1).gather(1, extension), old.name.gather(1, parent))
        ),
        added=old.added if gained is None else gained.gather(1, index),
        states=states,
    )
    return following, parent, torch.where(extends, new, -1)


def grow_live(
    old: Beam, live: Tensor, stay: Tensor, frame: Sequence[Tensor], automata: Automata
) -> tuple[Beam, Tensor, Tensor]:
    """``grow`` for the utterances that are ``live`` (B,); the prefixes of those that have ended stay as they are.

    Args:
        stay: (B, K) the number of each prefix.
        frame: what ``grow`` takes of the frame.
    """
    following, parent, token = grow(old, frame, automata)
    where = live.unsqueeze(1)
    return following.where(where, old), torch.where(where, parent, stay), torch.where(where, token, -1)


@dataclass(frozen=True)
class FrameState:
    """A search between two steps.

    Attributes:
        frame: () number of the next frame.
        beam: the live prefixes.
        parent, token: (T, B, K) which old prefix a prefix of frame t came from, and the token it appended, or -1.
    """

    frame: Tensor
    beam: Beam
    parent: Tensor
    token: Tensor


@dataclass(frozen=True)
class FrameSearch:
    """What does not change during a search of T frames, a multiple of those of a step.

    Attributes:
        log_probs, at_blank: (B, T, V) posteriors; (B, T) of the blank.
        best, ids: (B, T, C) the tokens that may extend a prefix, ``-inf`` where none may.
        frames: (B,) frames of each utterance.
    """

    log_probs: Tensor
    at_blank: Tensor
    best: Tensor
    ids: Tensor
    frames: Tensor
    automata: Automata

    @staticmethod
    def of(parts: Sequence[Tensor], frames: Tensor, automata: Automata) -> FrameSearch:
        """The search with frames after the last one, in which nothing happens.

        Args:
            parts: ``log_probs``, ``at_blank``, ``best`` and ``ids``.
        """
        size = -(-bucket(parts[0].size(1)) // _TOGETHER) * _TOGETHER
        log_probs, at_blank, best, ids = (padded(x, 1, size) for x in parts)
        return FrameSearch(log_probs, at_blank, best, ids, frames, automata)

    def run(self, width: int, run_step: Callable[[FrameSearch, FrameState], FrameState] | None) -> FrameState:
        """Search with ``width`` prefixes; ``run_step`` does what ``step`` does."""
        run_step = FrameSearch.step if run_step is None else run_step
        batch, size = self.at_blank.shape
        none = torch.zeros(size, batch, width, dtype=torch.long, device=self.frames.device)
        frame = torch.zeros((), dtype=torch.long, device=self.frames.device)
        state = FrameState(frame, Beam.empty(batch, width, self.log_probs, self.automata), none, none.clone())
        for _ in range(size // _TOGETHER):
            state = run_step(self, state)
        return state

    def step(self, state: FrameState) -> FrameState:
        """Several frames."""
        beam, parents, tokens = state.beam, [], []
        stay = torch.arange(beam.last.size(1), device=state.frame.device).expand_as(beam.last)
        numbers = state.frame + torch.arange(_TOGETHER, device=state.frame.device)
        parts = [x.index_select(1, numbers) for x in (self.log_probs, self.at_blank, self.best, self.ids)]
        for i in range(_TOGETHER):
            beam, parent, token = grow_live(
                beam, numbers[i] < self.frames, stay, [x[:, i] for x in parts], self.automata
            )
            parents.append(parent)
            tokens.append(token)
        return FrameState(
            state.frame + _TOGETHER,
            beam,
            state.parent.index_copy(0, numbers, torch.stack(parents)),
            state.token.index_copy(0, numbers, torch.stack(tokens)),
        )
