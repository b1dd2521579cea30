"""Speculative decoding: the CTC draft, verified by the decoder (Leviathan et al. 2023, with CTC as the drafter).

One teacher-forced pass gives the decoder's own next token at every position of the draft. The longest prefix on which both
agree is accepted, then the decoder's correction; the rest of the draft is realigned, and the next pass begins. With
``margin`` 0 the result is always that of greedy attention-only decoding: the draft only decides the number of passes. Where
few of an utterance's draft tokens are accepted, passes cost more than plain steps: those decode the rest of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from parlab.decode.base import NOTHING_SAID, Decoder, check_transcription
from parlab.decode.corrections.passes import CorrectionOptions, corrected
from parlab.decode.filling.drafting import Drafting
from parlab.decode.lengths import longest_texts
from parlab.decode.search.resume import continued, resume
from parlab.decode.verification import Continuations, Proposal, TextRules, greedy_continuations
from parlab.errors import UserError
from parlab.model.caches import CrossCache
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_host
from parlab.types import Hypothesis

# An utterance is decoded in plain steps once it had PASSES passes, and less than ACCEPTED draft tokens were accepted a pass. A
# pass costs what several steps cost, and decides one token besides those that it accepts.
_PASSES, _ACCEPTED = 4, 1.0


@dataclass(frozen=True)
class Speculative(Decoder):
    """Greedy attention decoding in few passes.

    Attributes:
        margin: accept a draft token whose log-probability is at most this far (in nats) below the decoder's best; 0 is
            exact.
        maxlenratio: most tokens as a share of encoder frames; 0: all frames; below 0: a number.
        lookahead: how far the draft is searched for a correction when it is realigned.
        corrections: passes at most in which the decoder corrects the draft in many places at once before it is verified.
    """

    name: ClassVar[str] = "speculative"

    margin: float = 0.0
    maxlenratio: float = 0.0
    lookahead: int = 3
    corrections: int = 0

    def __post_init__(self) -> None:
        if self.margin < 0 or self.lookahead < 0 or self.corrections < 0:
            raise UserError(
                f"margin is {self.margin}, lookahead {self.lookahead} and corrections {self.corrections}, expected numbers from 0; "
                "correct them"
            )

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """The score is the decoder's log-probability."""
        check_transcription(model, encoded.prompts, self.name)
        if encoded.states.size(1) == 0:
            return [NOTHING_SAID] * len(encoded)
        decoder, rules = model.rows, TextRules.of(model)
        # 1. The drafts of CTC, or of a draft head.
        drafts, passes, cross = self._drafts(model, encoded)
        [frames] = to_host(encoded.frames)
        positions = model.rows.spec.max_positions
        limits = longest_texts(self.maxlenratio, frames, encoded.prompts, positions).tolist()
        rows = [_Row(*own) for own in zip(encoded.prompts, drafts, limits, passes, strict=True)]
        for row, count in zip(rows, frames.tolist(), strict=True):
            row.done = count == 0
        # 2. Each round is one pass over what is accepted and what is left of the drafts, of the utterances not done.
        while live := [i for i, row in enumerate(rows) if not row.done and not (self.margin == 0 and row.is_weak)]:
            chosen = [rows[i] for i in live]
            found = greedy_continuations(
                decoder,
                cross if len(live) == len(rows) else cross.select(live),
                [Proposal(row.prompt, row.tokens, row.draft[: row.limit - len(row.tokens)]) for row in chosen],
                rules,
            )
            for row, continuation in zip(chosen, found, strict=True):
                row.verify(continuation, self, rules.stop)
        # 3. Utterances whose drafts the decoder does not accept go on token by token.
        weak = [i for i, row in enumerate(rows) if not row.done]
        own = [rows[i] for i in weak]
        tokens, limits = [row.tokens for row in own], [row.limit for row in own]
        rest = dict(zip(weak, resume(model, encoded.select(weak), tokens, limits, 1) if weak else (), strict=True))
        return [row.hypothesis(rest.get(i)) for i, row in enumerate(rows)]

    def _drafts(self, model: HybridModel, encoded: Encoded) -> tuple[list[list[int]], list[int], CrossCache]:
        """The drafts, corrected where that is asked for, the passes over each, and the decoder's cache of the utterances."""
        drafting = Drafting.of(model, encoded)
        if self.corrections:
            found = corrected(model, encoded, drafting, CorrectionOptions(self.corrections, self.margin))
            return [list(h.tokens) for h in found.drafting.greedy], found.passes, found.first.cross
        cross = model.rows.cross_cache(encoded.states, encoded.frames)
        return [list(h.tokens) for h in drafting.greedy], [0] * len(encoded), cross


@dataclass
class _Row:
    """One utterance of a search.

    Attributes:
        draft: what is left of it.
        limit: most tokens.
        corrections: passes that corrected the draft.
        tokens, scores: accepted so far, with the decoder's log-probabilities.
        passes, accepted: decoder passes, and draft tokens that were accepted.
    """

    prompt: tuple[int, ...]
    draft: list[int]
    limit: int
    corrections: int
    tokens: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    stop_score: float = 0.0
    passes: int = 0
    accepted: int = 0
    done: bool = False

    @property
    def is_weak(self) -> bool:
        """Whether passes over the draft decide too few tokens."""
        return self.passes >= _PASSES and self.accepted < _ACCEPTED * self.passes

    def verify(self, decoder: Continuations, options: Speculative, stop: int) -> None:
        """Accept the agreed prefix of the draft, then the decoder's own next token."""
        # 1. Draft tokens that the decoder would have chosen too, or nearly.
        self.passes += 1
        accepted = 0
        for i, token in enumerate(self.draft):
            near = options.margin > 0 and decoder.best[i] - decoder.own[i] <= options.margin
            if not (decoder.tokens[i] == token or near) or len(self.tokens) >= self.limit or token == stop:
                break
            self._take(token, decoder.own[i])
            accepted += 1
        self.accepted += accepted
        if len(self.tokens) >= self.limit:
            self.done = True
            return
        # 2. The decoder's next token; the rest of the draft is lined up with it.
        correction = decoder.tokens[accepted]
        if correction == stop:
            self.stop_score, self.done = decoder.best[accepted], True
            return
        self._take(correction, decoder.best[accepted])
        self.draft = realign(self.draft[accepted:], correction, options.lookahead)
        self.done = len(self.tokens) >= self.limit

    def _take(self, token: int, score: float) -> None:
        self.tokens.append(token)
        self.scores.append(score)

    def hypothesis(self, rest: Hypothesis | None) -> Hypothesis:
        """What was accepted, and the ``rest`` where it was decoded in steps."""
        counts = {
            "tokens": len(self.tokens),
            "decoder_passes": self.corrections + self.passes,
            "accepted_tokens": self.accepted,
        }
        confidence = tuple(math.exp(s) for s in self.scores)
        written = Hypothesis(tuple(self.tokens), sum(self.scores) + self.stop_score, confidence, counts=counts)
        return written if rest is None else continued(written, rest)


def realign(rest: list[int], correction: int, lookahead: int) -> list[int]:
    """What is left of a draft, ``rest``, after the decoder chose ``correction`` instead of its next token.

    If the correction comes within ``lookahead`` tokens, the tokens before it were insertions; else it replaced one token.
    """
    for skipped, token in enumerate(rest[: lookahead + 1]):
        if token == correction:
            return rest[skipped + 1 :]
    return rest[1:]
