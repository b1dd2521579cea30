"""Speculative decoding: the CTC draft, verified by the decoder (Leviathan et al. 2023, with CTC as the drafter).

One teacher-forced pass says at every place of the draft what the decoder itself would have said. The
longest prefix that it agrees with is accepted, its correction is taken, the rest of the draft is realigned, and so on.
With ``margin`` 0 the result is, always, that of greedy attention-only decoding; the draft only decides how
many passes it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.base import Decoder
from parlab.decode.draft import greedy_draft
from parlab.decode.prompts import Prompt, check_transcription, prompts_for
from parlab.decode.verification import greedy_continuations
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.model.rows import CrossCache
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Speculative(Decoder):
    """Greedy attention decoding in few passes.

    Attributes:
        margin: accept a draft token whose log-probability is at most this far (in nats) below the decoder's best; 0 is
            exact.
        maxlenratio: most tokens as a share of encoder frames; 0: all frames; below 0: a number.
        lookahead: how far the draft is searched for a correction when it is realigned.
    """

    name: ClassVar[str] = "speculative"

    margin: float = 0.0
    maxlenratio: float = 0.0
    lookahead: int = 3

    def __post_init__(self) -> None:
        if self.margin < 0 or self.lookahead < 0:
            raise UserError(
                f"margin is {self.margin} and lookahead {self.lookahead}, expected numbers from 0; correct them"
            )

    def decode(
        self,
        model: HybridModel,
        encoder_out: Tensor,
        lengths: Tensor,
        prompt: Prompt = None,
        ctc_log_probs: Tensor | None = None,
    ) -> list[Hypothesis]:
        """Decode ``encoder_out`` (B, T, D) of ``lengths`` (B,); the score is the decoder's log-probability."""
        from parlab.decode.ar import length_limit

        check_transcription(model, prompt, self.name)
        decoder, special = model.rows, model.special
        log_probs = model.ctc_log_probs(encoder_out) if ctc_log_probs is None else ctc_log_probs
        draft = greedy_draft(log_probs, lengths, special.blank)
        drafts = [row[:n] for row, n in zip(draft.tokens.tolist(), draft.lengths.tolist(), strict=True)]
        prompts = prompts_for(model, prompt, len(encoder_out))
        limits = length_limit(self.maxlenratio, lengths, at_zero=lengths).clamp(min=1).tolist()
        rows = [_Row(p, d, n) for p, d, n in zip(prompts, drafts, limits, strict=True)]
        cross = decoder.cross_cache(encoder_out, lengths)
        while live := [i for i, row in enumerate(rows) if not row.done]:
            chosen = [rows[i] for i in live]
            said, best, own = greedy_continuations(
                decoder,
                _select(cross, live),
                [[*row.prompt, *row.tokens, *row.draft] for row in chosen],
                [len(row.prompt) + len(row.tokens) for row in chosen],
                special.never,
                special.eos,
            )
            for row, words, chances, agreed in zip(chosen, said, best, own, strict=True):
                row.verify(words, chances, agreed, self, special.eos)
        return [row.hypothesis() for row in rows]


@dataclass
class _Row:
    """One utterance: what is accepted, and what is left of the draft."""

    prompt: tuple[int, ...]
    draft: list[int]
    limit: int
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    stop_score: float = 0.0
    passes: int = 0
    accepted: int = 0
    done: bool = False

    def verify(
        self, said: Sequence[int], best: Sequence[float], own: Sequence[float], how: Speculative, stop: int
    ) -> None:
        """Accept the agreed prefix of the draft, then the decoder's own next token."""
        self.passes += 1
        used = 0
        for place, token in enumerate(self.draft):
            agreed = said[place] == token or (how.margin > 0 and best[place] - own[place] <= how.margin)
            if not agreed or len(self.tokens) >= self.limit or token == stop:
                break
            self._take(token, own[place])
            used += 1
        self.accepted += used
        if len(self.tokens) >= self.limit:
            self.done = True
            return
        correction = said[used]
        if correction == stop:
            self.stop_score, self.done = best[used], True
            return
        self._take(correction, best[used])
        self.draft = realign(self.draft[used:], correction, how.lookahead)
        self.done = len(self.tokens) >= self.limit

    def _take(self, token: int, score: float) -> None:
        self.tokens.append(token)
        self.scores.append(score)

    def hypothesis(self) -> Hypothesis:
        counts = {"tokens": len(self.tokens), "decoder_passes": self.passes, "accepted_tokens": self.accepted}
        confidence = tuple(float(torch.tensor(s).exp()) for s in self.scores)
        return Hypothesis(tuple(self.tokens), sum(self.scores) + self.stop_score, confidence, counts=counts)


def realign(rest: list[int], correction: int, lookahead: int) -> list[int]:
    """What is left of a draft after the decoder said ``correction`` instead of its next token.

    If the correction comes soon in the draft, the tokens before it were insertions; else it replaced one token.
    """
    for skipped, token in enumerate(rest[: lookahead + 1]):
        if token == correction:
            return rest[skipped + 1 :]
    return rest[1:]


def _select(cross: CrossCache, rows: Sequence[int]) -> CrossCache:
    if len(rows) == len(cross.keys[0]):
        return cross
    index = torch.tensor(list(rows), device=cross.keys[0].device)
    mask = None if cross.mask is None else cross.mask[index]
    return CrossCache([k[index] for k in cross.keys], [v[index] for v in cross.values], mask)
