"""CTC prefix beam search, batched over utterances (Hannun et al. 2014, without a language model)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from parlab.errors import UserError
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
    """How prefixes are searched.

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
        names = ("ends_blank", "ends_token", "last", "name")
        return _Beam(*(torch.where(live, getattr(self, n), getattr(other, n)) for n in names))


def prefix_beam(log_probs: Tensor, frames: Tensor, blank: int, options: PrefixBeam) -> Prefixes:
    """Search ``log_probs`` (B, T, V) of ``frames`` (B,), all utterances frame by frame."""
    batch, size, vocabulary = log_probs.shape
    beam = options.beam
    text = log_probs.clone()
    text[..., blank] = NEVER
    best, ids = text.topk(min(options.token_beam, vocabulary - 1), dim=2)  # (B, T, C)
    at_blank = log_probs[..., blank]
    skip = torch.zeros_like(at_blank, dtype=torch.bool)
    if options.blank_skip < 1.0:
        skip = at_blank.exp() >= options.blank_skip
    stay = torch.arange(beam, device=log_probs.device).expand(batch, beam)
    held = _Beam.empty(batch, beam, log_probs)
    parents, appended = [], []
    for t in range(size):
        live = (t < frames).unsqueeze(1)  # (B, 1)
        grown = best[:, t].masked_fill(skip[:, t].unsqueeze(1), NEVER)
        following, parent, token = _frame(held, log_probs[:, t], at_blank[:, t], grown, ids[:, t])
        held = following.where(live, held)
        parents.append(torch.where(live, parent, stay))
        appended.append(torch.where(live, token, -1))
    score = torch.logaddexp(held.ends_blank, held.ends_token)
    empty = held.last.new_zeros(0, batch, beam)
    return Prefixes(score, torch.stack(parents) if parents else empty, torch.stack(appended) if appended else empty)


def _frame(held: _Beam, log_probs: Tensor, at_blank: Tensor, best: Tensor, ids: Tensor) -> tuple[_Beam, Tensor, Tensor]:
    """One frame: ``log_probs`` (B, V), ``at_blank`` (B,), and the ``best`` (B, C) tokens with their ``ids``.

    Returns:
        the new beam; which old prefix each new one came from, and the token it appended or -1, both (B, K).
    """
    batch, beam = held.last.shape
    count = ids.size(1)
    # 1. Prefixes that stay: a blank follows, or the last token goes on.
    whole = torch.logaddexp(held.ends_blank, held.ends_token)
    stay_blank = whole + at_blank.unsqueeze(1)
    same = log_probs.gather(1, held.last.clamp(min=0)).masked_fill(held.last < 0, NEVER)
    stay_token = held.ends_token + same
    # 2. Extensions (B, K, C): from all ways, or only from those that end with a blank where the token repeats.
    token = ids.unsqueeze(1).expand(batch, beam, count)
    start = torch.where(token == held.last.unsqueeze(2), held.ends_blank.unsqueeze(2), whole.unsqueeze(2))
    grown = start + best.unsqueeze(1)
    name = held.name.unsqueeze(2) * 6364136223846793005 + (token + 1442695040888963407)
    # 3. An extension that is already in the beam adds its probability there.
    known = name.flatten(1).unsqueeze(2) == held.name.unsqueeze(1)  # (B, K C, K)
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
        last=torch.where(extends, new, held.last.gather(1, parent)),
        name=torch.where(extends, name.flatten(1).gather(1, extension), held.name.gather(1, parent)),
    )
    return following, parent, torch.where(extends, new, -1)


def prefix_hypotheses(found: Prefixes, log_probs: Tensor, nbest: int) -> list[Hypothesis]:
    """Follow the prefixes back to their tokens; a token's confidence is its highest posterior until the next token."""
    score, order = found.score.sort(dim=1, descending=True)
    place, chain = order, []
    for t in range(len(found.parent) - 1, -1, -1):
        chain.append(found.token[t].gather(1, place))
        place = found.parent[t].gather(1, place)
    frames = len(found.parent)
    path = torch.stack(chain[::-1], 2) if chain else order.new_full((*order.shape, 0), -1)  # (B, K, T)
    # A prefix takes a token up long before its peak: the token's frame is where its posterior is highest until the next one.
    place = torch.where(path >= 0, torch.arange(frames, device=path.device), 0).cummax(2).values if frames else path
    held = path.gather(2, place).clamp(min=0)  # the newest token at each frame
    posterior = log_probs.gather(2, held.transpose(1, 2)).transpose(1, 2).exp() if frames else path.float()
    out = []
    for scores, paths, chances in zip(score.tolist(), path.tolist(), posterior.tolist(), strict=True):
        listed = []
        for value, steps, chance in list(zip(scores, paths, chances, strict=True))[:nbest]:
            if value == NEVER:
                continue
            at = [t for t, token in enumerate(steps) if token >= 0]
            peaks = [max(range(a, b), key=chance.__getitem__) for a, b in pairwise([*at, frames])]
            listed.append(
                Hypothesis(
                    tokens=tuple(steps[t] for t in at),
                    score=value,
                    token_confidence=tuple(chance[t] for t in peaks),
                    token_frames=tuple((t, t) for t in peaks),
                    counts={"tokens": len(at)},
                )
            )
        best = listed[0]
        if nbest > 1:
            best = Hypothesis(
                best.tokens,
                best.score,
                best.token_confidence,
                best.token_frames,
                nbest=tuple(listed),
                counts=best.counts,
            )
        out.append(best)
    return out
