"""Three stages: the draft as a whole where CTC is sure, else where the decoder accepts it, else AR from what it accepts.

A baseline for PAR: cheap where utterances are easy, but one doubted token sends the rest of its utterance through AR. The gate is
an entropy, as in early-exit decoding; acceptance is relaxed, as in speculative decoding with a margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from parlab.decode.base import NOTHING_SAID, Decoder, check_transcription
from parlab.decode.confidence.fitted import check_fitted
from parlab.decode.confidence.judging import judge
from parlab.decode.confidence.measure import find_measure
from parlab.decode.filling.drafting import Drafting
from parlab.decode.lengths import longest_texts
from parlab.decode.search.resume import continued, resume
from parlab.decode.verification import Continuations, Proposal, TextRules, greedy_continuations
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_host
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Gated(Decoder):
    """Accept or reject the CTC draft as a whole, by its confidence and by one decoder pass; else AR from the accepted prefix.

    Attributes:
        gate: mean confidence of a draft's tokens from which on it is the result, unseen by the decoder; 0 to 1, more than 1 is never.
        measure: confidence measure of the gate, by name, with its options, as for ``par``.
        margin: the decoder accepts a draft token whose log-probability is at most this far (in nats) below its best one.
        beam_size: live hypotheses of the search after the accepted prefix.
        maxlenratio: most tokens as a share of encoder frames; 0: all frames; below 0: a number.
    """

    name: ClassVar[str] = "gated"

    gate: float = 0.95
    measure: str = "gibbs"
    margin: float = 1.0
    beam_size: int = 10
    maxlenratio: float = 0.0

    def __post_init__(self) -> None:
        if not self.gate >= 0 or not self.margin >= 0 or self.beam_size < 1:
            raise UserError(
                f"gate is {self.gate}, margin {self.margin} and beam_size {self.beam_size}, expected numbers from 0 and a beam of at "
                "least 1; correct them"
            )
        find_measure(self.measure)

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        check_fitted(self.measure, model)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """The score is the decoder's log-probability, 0 where the decoder saw nothing."""
        check_transcription(model, encoded.prompts, self.name)
        if encoded.states.size(1) == 0:
            return [NOTHING_SAID] * len(encoded)
        # 1. The gate. A measure that reads the decoder makes a pass of its own.
        drafting, prefill = judge(self.measure, model, encoded, Drafting.of(model, encoded))
        before = 0 if prefill is None else 1
        found = [replace(h, score=0.0, counts={**h.counts, "decoder_passes": before}) for h in drafting.greedy]
        [frames] = to_host(encoded.frames)
        counted = frames.tolist()
        doubted = [i for i, h in enumerate(found) if counted[i] and not _mean(h.token_confidence) >= self.gate]
        if not doubted:
            return found
        # 2. One pass over the doubted drafts: the longest prefix that the decoder accepts.
        positions = model.rows.spec.max_positions
        limits = longest_texts(self.maxlenratio, frames, encoded.prompts, positions).tolist()
        rows = [Proposal(encoded.prompts[i], (), found[i].tokens[: limits[i] - 1]) for i in doubted]
        chosen = encoded.select(doubted)
        cross = model.rows.cross_cache(chosen.states, chosen.frames)
        answers = greedy_continuations(model.rows, cross, rows, TextRules.of(model))
        accepted = [self._accepted(row.proposed, answer) for row, answer in zip(rows, answers, strict=True)]
        # 3. AR from there, unless the decoder would end where the draft does.
        open_ = []
        for i, row, answer, n in zip(doubted, rows, answers, accepted, strict=True):
            passed = {"decoder_passes": before + 1, "accepted_tokens": n}
            scores = answer.own[:n]
            if n == len(found[i].tokens) and answer.tokens[n] == model.special.eos:
                found[i] = replace(found[i], score=sum(scores) + answer.best[n], counts={**found[i].counts, **passed})
            else:
                open_.append(i)
                sure = tuple(math.exp(s) for s in scores)
                found[i] = Hypothesis(tuple(row.proposed[:n]), sum(scores), sure, counts=passed)
        if open_:
            rest = resume(
                model,
                encoded.select(open_),
                [found[i].tokens for i in open_],
                [limits[i] for i in open_],
                self.beam_size,
            )
            for i, more in zip(open_, rest, strict=True):
                found[i] = continued(found[i], more)
        return found

    def _accepted(self, draft: Sequence[int], decoder: Continuations) -> int:
        """Tokens of the longest prefix of a draft that the decoder would have written, or nearly."""
        for i, token in enumerate(draft):
            if decoder.tokens[i] != token and not decoder.best[i] - decoder.own[i] <= self.margin:
                return i
        return len(draft)


def _mean(values: tuple[float, ...]) -> float:
    """The mean confidence; of a draft without tokens nothing is known, so that the decoder is asked."""
    return sum(values) / len(values) if values else -1.0
