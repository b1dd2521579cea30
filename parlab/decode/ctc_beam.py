"""CTC prefix beam search, batched over utterances (Hannun et al. 2014, without a language model)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.base import Decoder
from parlab.decode.prompts import Prompt, check_transcription
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
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


@dataclass(frozen=True)
class CTCBeam(Decoder):
    """Sum over alignments instead of the single best path.

    Attributes:
        beam_size: prefixes kept per utterance.
        nbest: hypotheses returned.
        token_beam: tokens that may extend a prefix at a frame, the most probable ones.
        blank_skip: frames whose blank posterior is at least this only add a blank; 1.0 skips none.
    """

    name: ClassVar[str] = "ctc_beam"

    beam_size: int = 10
    nbest: int = 1
    token_beam: int = 20
    blank_skip: float = 1.0

    def __post_init__(self) -> None:
        check_beam(self.beam_size, self.nbest, self.token_beam)

    def decode(
        self,
        model: HybridModel,
        encoder_out: Tensor,
        lengths: Tensor,
        prompt: Prompt = None,
        ctc_log_probs: Tensor | None = None,
    ) -> list[Hypothesis]:
        """Decode ``encoder_out`` (B, T, D) of ``lengths`` (B,); the score is the prefix's log-probability."""
        check_transcription(model, prompt, self.name)
        log_probs = model.ctc_log_probs(encoder_out) if ctc_log_probs is None else ctc_log_probs
        width = max(self.beam_size, self.nbest)
        found = prefix_beam(log_probs, lengths, model.special.blank, width, self.token_beam, self.blank_skip)
        return prefix_hypotheses(found, log_probs, self.nbest)


def check_beam(beam_size: int, nbest: int, token_beam: int) -> None:
    """Refuse sizes that leave nothing.

    Raises:
        UserError: one is below 1.
    """
    if min(beam_size, nbest, token_beam) < 1:
        raise UserError(
            f"beam_size, nbest and token_beam are {beam_size}, {nbest} and {token_beam}, expected at least 1 each; correct them"
        )


def prefix_beam(
    log_probs: Tensor, lengths: Tensor, blank: int, beam: int, token_beam: int, blank_skip: float = 1.0
) -> Prefixes:
    """Search ``log_probs`` (B, T, V), all utterances frame by frame.

    A prefix is known by a hash of its tokens (64 bits), so that two ways to the same prefix are found by comparing
    numbers: a prefix that is extended to one that is already in the beam adds its probability there.
    """
    batch, frames, vocabulary = log_probs.shape
    device = log_probs.device
    tokens_at = min(token_beam, vocabulary - 1)
    text = log_probs.clone()
    text[..., blank] = NEVER
    best, ids = text.topk(tokens_at, dim=2)  # (B, T, C)
    at_blank = log_probs[..., blank]
    ends_blank = log_probs.new_full((batch, beam), NEVER)
    ends_blank[:, 0] = 0.0
    ends_token = torch.full_like(ends_blank, NEVER)
    last = torch.full((batch, beam), -1, dtype=torch.long, device=device)
    name = torch.arange(beam, device=device).expand(batch, beam).contiguous() - beam  # unused slots differ
    name[:, 0] = 1
    stay = torch.arange(beam, device=device).expand(batch, beam)
    parents, appended = [], []
    skip = at_blank.exp() >= blank_skip if blank_skip < 1.0 else torch.zeros_like(at_blank, dtype=torch.bool)
    for t in range(frames):
        live = (t < lengths).unsqueeze(1)  # (B, 1)
        whole = torch.logaddexp(ends_blank, ends_token)
        stay_blank = whole + at_blank[:, t].unsqueeze(1)
        same = log_probs[:, t].gather(1, last.clamp(min=0)).masked_fill(last < 0, NEVER)
        stay_token = ends_token + same
        # Extensions (B, K, C): from all ways, or only from those that end with a blank where the token repeats.
        token = ids[:, t].unsqueeze(1).expand(batch, beam, tokens_at)
        start = torch.where(token == last.unsqueeze(2), ends_blank.unsqueeze(2), whole.unsqueeze(2))
        grown = start + best[:, t].unsqueeze(1)
        grown = grown.masked_fill(skip[:, t].view(-1, 1, 1), NEVER)
        renamed = name.unsqueeze(2) * 6364136223846793005 + (token + 1442695040888963407)
        # An extension that is already in the beam gives its probability to it.
        known = renamed.flatten(1).unsqueeze(2) == name.unsqueeze(1)  # (B, K C, K)
        gift = torch.where(known, grown.flatten(1).unsqueeze(2), NEVER).logsumexp(1)
        stay_token = torch.logaddexp(stay_token, gift)
        grown = grown.flatten(1).masked_fill(known.any(2), NEVER)
        score = torch.cat([torch.logaddexp(stay_blank, stay_token), grown], 1)
        place = score.topk(beam, dim=1).indices
        extends = place >= beam
        parent = torch.where(extends, (place - beam) // tokens_at, place)
        new = token.flatten(1).gather(1, (place - beam).clamp(min=0))
        next_blank = torch.where(extends, NEVER, stay_blank.gather(1, parent))
        next_token = torch.where(extends, score.gather(1, place), stay_token.gather(1, parent))
        next_name = torch.where(
            extends, renamed.flatten(1).gather(1, (place - beam).clamp(min=0)), name.gather(1, parent)
        )
        next_last = torch.where(extends, new, last.gather(1, parent))
        ends_blank = torch.where(live, next_blank, ends_blank)
        ends_token = torch.where(live, next_token, ends_token)
        name = torch.where(live, next_name, name)
        last = torch.where(live, next_last, last)
        parents.append(torch.where(live, parent, stay))
        appended.append(torch.where(live & extends, new, -1))
    score = torch.logaddexp(ends_blank, ends_token)
    empty = last.new_zeros(0, batch, beam)
    return Prefixes(score, torch.stack(parents) if parents else empty, torch.stack(appended) if appended else empty)


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
