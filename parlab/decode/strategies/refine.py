"""Refinement by the decoder's own passes, as Mask-CTC does with a conditional masked language model (Higuchi et al. 2020,
arXiv:2005.08700): unsure tokens are replaced, the easiest first; the number of tokens stays as CTC has it.

A baseline for PAR: no search and no windows. The decoder is causal, so that a token is chosen after the text before it, in which tokens
that are still unsure stand as the draft has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import ClassVar

import torch

from parlab.decode.base import NOTHING_SAID, Decoder, check_transcription
from parlab.decode.confidence.fitted import check_fitted
from parlab.decode.confidence.judging import judge
from parlab.decode.confidence.measure import DEFAULT, find_measure
from parlab.decode.filling.drafting import Drafting
from parlab.decode.masking import Masks, mask_below
from parlab.decode.verification import Continuations, Proposal, TextRules, greedy_continuations
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis, Segment


@dataclass(frozen=True)
class Refine(Decoder):
    """Replace unsure draft tokens by the decoder's best token at their places, in a few passes.

    Attributes:
        threshold: confidence (a probability) below which a draft token is masked; the draft of a head that spells words is
            masked by words.
        measure: confidence measure, by name, with its options, as for ``par``.
        iterations: decoder passes at most; each replaces an equal part of an utterance's masked tokens, those first of whose
            replacements the decoder is surest.
    """

    name: ClassVar[str] = "refine"

    threshold: float = 0.9
    measure: str = DEFAULT
    iterations: int = 3

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0 + 1e-6 or self.iterations < 1:
            raise UserError(
                f"threshold is {self.threshold} and iterations {self.iterations}, expected a probability and at least 1; correct "
                "them"
            )
        find_measure(self.measure)

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        check_fitted(self.measure, model)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """The score is the sum of the decoder's log-probabilities of the replacements."""
        check_transcription(model, encoded.prompts, self.name)
        if encoded.states.size(1) == 0:
            return [NOTHING_SAID] * len(encoded)
        # 1. The drafts, and the tokens that are masked: as far as the decoder has positions.
        drafting, prefill = judge(self.measure, model, encoded, Drafting.of(model, encoded))
        masks = drafting.masked(model, Masks(mask_below(drafting.draft, self.threshold)), "token").tokens.tolist()
        positions = model.rows.spec.max_positions or math.inf
        texts = []
        for hypothesis, row, prompt in zip(drafting.greedy, masks, encoded.prompts, strict=True):
            size = len(hypothesis.tokens)
            places = [u for u in range(size) if row[u] and u + len(prompt) < positions]
            texts.append(_Text(hypothesis, places, math.ceil(len(places) / self.iterations)))
            texts[-1].passes = 0 if prefill is None else 1
        # 2. Each pass replaces the easiest ones that are left.
        rules = TextRules.of(model)
        while live := [i for i, text in enumerate(texts) if text.places]:
            chosen = encoded if len(live) == len(texts) else encoded.select(live)
            cross = model.rows.cross_cache(chosen.states, chosen.frames)
            rows = [Proposal(encoded.prompts[i], (), texts[i].tokens[: max(texts[i].places) + 1]) for i in live]
            for i, answer in zip(live, greedy_continuations(model.rows, cross, rows, rules), strict=True):
                texts[i].replace_easiest(answer, rules.stop)
        return [text.hypothesis() for text in texts]


class _Text:
    """One utterance: its text so far, and the places of tokens that are to be replaced, ``each`` of them a pass."""

    def __init__(self, draft: Hypothesis, places: Sequence[int], each: int):
        self.draft, self.places, self.each = draft, list(places), each
        self.masked = list(places)
        self.tokens, self.confidence = list(draft.tokens), list(draft.token_confidence)
        self.score, self.passes = 0.0, 0

    def replace_easiest(self, decoder: Continuations, stop: int) -> None:
        """Replace the tokens of whose replacements the decoder is surest; where it would end, the draft's stays."""
        self.passes += 1
        ranked = sorted(self.places, key=lambda u: (-decoder.best[u], u))
        for u in ranked[: self.each]:
            if decoder.tokens[u] != stop:
                self.tokens[u], self.confidence[u] = decoder.tokens[u], math.exp(decoder.best[u])
                self.score += decoder.best[u]
        self.places = sorted(ranked[self.each :])

    def hypothesis(self) -> Hypothesis:
        """The text, with its runs of masked tokens as segments."""
        runs = [[u for _, u in run] for _, run in groupby(enumerate(self.masked), lambda pair: pair[1] - pair[0])]
        segments = tuple(
            Segment(
                run[0], run[-1] + 1, self.draft.tokens[run[0] : run[-1] + 1], tuple(self.tokens[run[0] : run[-1] + 1])
            )
            for run in runs
        )
        counts = {"masked_tokens": len(self.masked), "segments": len(segments), "decoder_passes": self.passes}
        return replace(
            self.draft,
            tokens=tuple(self.tokens),
            token_confidence=tuple(self.confidence),
            segments=segments,
            score=self.score,
            counts={**self.draft.counts, **counts},
        )
