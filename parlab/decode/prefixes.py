"""CTC prefix beam search, batched over utterances (Hannun et al. 2014, without a language model)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.transfer import to_host
from parlab.types import Hypothesis

NEVER = float("-inf")


@dataclass(frozen=True)
class Prefixes:
    """The K best prefixes of B utterances after T frames.

    Attributes:
        score: (B, K) log-probability, best first; ``-inf`` where there are fewer.
        parent, token: (T, B, K) which old prefix a prefix of frame t came from, and the token it appended, or -1.
    """

    score: Tensor
    parent: Tensor
    token: Tensor


def check_beam(beam_size: int, nbest: int, token_beam: int) -> None:
    """Refuse sizes that leave nothing.

    Raises:
        UserError: one is below 1.
    """
    if min(beam_size, nbest, token_beam) < 1:
        raise UserError(
            f"beam_size, nbest and token_beam are {beam_size}, {nbest} and {token_beam}, expected at least 1 each; correct them"
        )


@dataclass(frozen=True)
class PrefixBeam:
    """Widths of the search.

    Attributes:
        beam: prefixes kept per utterance.
        token_beam: tokens that may extend a prefix at a frame, the most probable ones.
        blank_skip: frames whose blank posterior is at least this only add a blank; 1.0 skips none.
    """

    beam: int
    token_beam: int
    blank_skip: float = 1.0


@dataclass(frozen=True)
class _Beam:
    """The live prefixes, each (B, K).

    Attributes:
        ends_blank, ends_token: log-probability of the ways that end with a blank, or with the last token.
        last: the last token, or -1.
        name: a hash of the tokens (64 bits), so that equal prefixes are found by comparing numbers.
    """

    ends_blank: Tensor
    ends_token: Tensor
    last: Tensor
    name: Tensor

    @staticmethod
    def empty(batch: int, beam: int, like: Tensor) -> _Beam:
        """The empty prefix, and unused slots whose names differ."""
        ends_blank = like.new_full((batch, beam), NEVER)
        ends_blank[:, 0] = 0.0
        last = torch.full((batch, beam), -1, dtype=torch.long, device=like.device)
        name = torch.arange(beam, device=like.device).expand(batch, beam).contiguous() - beam
        name[:, 0] = 1
        return _Beam(ends_blank, torch.full_like(ends_blank, NEVER), last, name)

    def where(self, live: Tensor, other: _Beam) -> _Beam:
        """This beam for the utterances that are ``live`` (B, 1), the other for the rest."""
        return _Beam(*(torch.where(live, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


def prefix_beam(log_probs: Tensor, frames: Tensor, blank: int, options: PrefixBeam) -> Prefixes:
    """Search ``log_probs`` (B, T, V) of ``frames`` (B,), all utterances frame by frame."""
    batch, size, vocabulary = log_probs.shape
    beam = options.beam
    # 1. The tokens that may extend a prefix at each frame; none where the blank is nearly sure.
    text = log_probs.clone()
    text[..., blank] = NEVER
    best, ids = text.topk(min(options.token_beam, vocabulary - 1), dim=2)  # (B, T, C)
    at_blank = log_probs[..., blank]
    skip = torch.zeros_like(at_blank, dtype=torch.bool)
    if options.blank_skip < 1.0:
        skip = at_blank.exp() >= options.blank_skip
    # 2. Frame by frame; the prefixes of utterances that have ended stay as they are.
    stay = torch.arange(beam, device=log_probs.device).expand(batch, beam)
    prefixes = _Beam.empty(batch, beam, log_probs)
    parents, appended = [], []
    for t in range(size):
        live = (t < frames).unsqueeze(1)  # (B, 1)
        grown = best[:, t].masked_fill(skip[:, t].unsqueeze(1), NEVER)
        following, parent, token = _frame(prefixes, log_probs[:, t], at_blank[:, t], grown, ids[:, t])
        prefixes = following.where(live, prefixes)
        parents.append(torch.where(live, parent, stay))
        appended.append(torch.where(live, token, -1))
    score = torch.logaddexp(prefixes.ends_blank, prefixes.ends_token)
    empty = prefixes.last.new_zeros(0, batch, beam)
    return Prefixes(score, torch.stack(parents) if parents else empty, torch.stack(appended) if appended else empty)


def _frame(old: _Beam, log_probs: Tensor, at_blank: Tensor, best: Tensor, ids: Tensor) -> tuple[_Beam, Tensor, Tensor]:
    """One frame: ``log_probs`` (B, V), ``at_blank`` (B,), and the ``best`` (B, C) tokens with their ``ids``.

    Returns:
        the new beam; which old prefix each new one came from, and the token it appended or -1, both (B, K).
    """
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
    # 3. An extension that is already in the beam adds its probability there.
    known = name.flatten(1).unsqueeze(2) == old.name.unsqueeze(1)  # (B, K C, K)
    added = torch.where(known, grown.flatten(1).unsqueeze(2), NEVER).logsumexp(1)
    stay_token = torch.logaddexp(stay_token, added)
    grown = grown.flatten(1).masked_fill(known.any(2), NEVER)
    # 4. The K best of both.
    score = torch.cat([torch.logaddexp(stay_blank, stay_token), grown], 1)
    index = score.topk(beam, dim=1).indices
    extends = index >= beam
    parent = torch.where(extends, (index - beam) // count, index)
    extension = (index - beam).clamp(min=0)
    new = token.flatten(1).gather(1, extension)
    following = _Beam(
        ends_blank=torch.where(extends, NEVER, stay_blank.gather(1, parent)),
        ends_token=torch.where(extends, score.gather(1, index), stay_token.gather(1, parent)),
        last=torch.where(extends, new, old.last.gather(1, parent)),
        name=torch.where(extends, name.flatten(1).gather(1, extension), old.name.gather(1, parent)),
    )
    return following, parent, torch.where(extends, new, -1)


def prefix_hypotheses(prefixes: Prefixes, log_probs: Tensor, nbest: int) -> list[Hypothesis]:
    """The prefixes as hypotheses, best first; a token's confidence is its highest posterior until the next token.

    Args:
        prefixes: K prefixes of each of B utterances.
        log_probs: (B, T, V) the posteriors that were searched.
        nbest: prefixes listed in ``nbest`` of each hypothesis; 1 lists none.
    """
    score, order = prefixes.score.sort(dim=1, descending=True)
    path = _paths(prefixes, order)
    # A prefix takes a token up long before its peak: the token's frame is where its posterior is highest until the next one.
    frames = path.size(2)
    posterior = path.float()
    if frames:
        started = torch.where(path >= 0, torch.arange(frames, device=path.device), 0).cummax(2).values
        newest = path.gather(2, started).clamp(min=0)  # the newest token at each frame
        posterior = log_probs.gather(2, newest.transpose(1, 2)).transpose(1, 2).exp()
    hypotheses = []
    for utterance in zip(*(x.tolist() for x in to_host(score, path, posterior)), strict=True):
        rows = list(zip(*utterance, strict=True))[:nbest]
        listed = tuple(_hypothesis(value, steps, chances) for value, steps, chances in rows if value != NEVER)
        hypotheses.append(replace(listed[0], nbest=listed) if nbest > 1 else listed[0])
    return hypotheses


def _paths(prefixes: Prefixes, order: Tensor) -> Tensor:
    """The token (B, K, T) that each prefix appended at each frame, or -1; prefix k is number ``order`` (B, K)."""
    index, chain = order, []
    for t in range(len(prefixes.parent) - 1, -1, -1):
        chain.append(prefixes.token[t].gather(1, index))
        index = prefixes.parent[t].gather(1, index)
    return torch.stack(chain[::-1], 2) if chain else order.new_full((*order.shape, 0), -1)


def _hypothesis(score: float, steps: Sequence[int], chances: Sequence[float]) -> Hypothesis:
    """One prefix: the token appended at each frame or -1, and the posterior of the newest token at each frame."""
    starts = [t for t, token in enumerate(steps) if token >= 0]
    peaks = [max(range(a, b), key=chances.__getitem__) for a, b in pairwise([*starts, len(steps)])]
    return Hypothesis(
        tokens=tuple(steps[t] for t in starts),
        score=score,
        token_confidence=tuple(chances[t] for t in peaks),
        token_frames=tuple((t, t) for t in peaks),
        counts={"tokens": len(starts)},
    )
