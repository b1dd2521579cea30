"""Attention rescoring: CTC n-best, one decoder pass over all candidates, interpolation (Zhang et al. 2020, U2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.base import NOTHING_SAID, Decoder, check_transcription
from parlab.decode.ctc_fusion import phrase_automata
from parlab.decode.fusion import Contexts, fused_scores, fusions, prepare_fusion
from parlab.decode.prefixes import PrefixBeam, check_beam, ctc_nbest
from parlab.decode.verification import sequence_scores
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.families.wenet.model import reverse_rows
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_host
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Rescore(Decoder):
    """Choose among CTC's n-best by ``attention_weight`` * decoder + ``ctc_weight`` * CTC + ``penalty`` * tokens.

    Attributes:
        beam_size: candidates per utterance.
        ctc_weight, attention_weight: of the two log-probabilities.
        penalty: bonus per token.
        lm: folder of an ESPnet language model, or an ARPA or KenLM file over the decoder's tokens, for shallow fusion; ``lm_weight`` of
            its log-probability.
        phrases: file of phrases that are boosted, in CTC's n-best too, one a line with or without a tab and a weight
            (``docs/guides/phrases.md``).
        phrase_weight: nats per token of a phrase of weight 1.
        nbest: hypotheses returned.
        token_beam: as for ``ctc_beam``.
        reverse_weight: share of the decoder from right to left in the decoder's log-probability (WeNet's U2++, which trains it with 0.3).
    """

    name: ClassVar[str] = "rescore"

    beam_size: int = 10
    ctc_weight: float = 0.5
    attention_weight: float = 0.5
    penalty: float = 0.0
    lm: str | None = None
    lm_weight: float = 0.3
    phrases: str | None = None
    phrase_weight: float = 1.0
    nbest: int = 1
    token_beam: int = 20
    reverse_weight: float = 0.0

    def __post_init__(self) -> None:
        check_beam(self.beam_size, self.nbest, self.token_beam)
        if not 0.0 <= self.reverse_weight <= 1.0:
            raise UserError(f"reverse_weight is {self.reverse_weight}, expected a share from 0 to 1; correct it")

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        prepare_fusion(self, model, device)
        if self.reverse_weight:
            reverse_rows(model)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """The score is the interpolated one."""
        check_transcription(model, encoded.prompts, self.name)
        if encoded.states.size(1) == 0:
            return [NOTHING_SAID] * len(encoded)
        decoder, special = model.rows, model.special
        # 1. CTC's n-best, of the model's own head or of a draft head.
        automata = phrase_automata(self.phrases, self.phrase_weight, model, encoded, counted=False)
        beam = PrefixBeam(self.beam_size, self.token_beam, automata=automata)
        lists = [h.nbest or (h,) for h in ctc_nbest(model, encoded, beam, self.beam_size)]
        # 2. One decoder pass over all candidates of all utterances.
        cross = decoder.cross_cache(encoded.states, encoded.frames)
        candidates = [[h.tokens for h in listed] for listed in lists]
        attention_scores = sequence_scores(decoder, cross, encoded.prompts, candidates, special.eos)
        if self.reverse_weight:
            attention_scores = torch.lerp(
                attention_scores, self._reverse(model, encoded, candidates), self.reverse_weight
            )
        added = self._fused(model, encoded, candidates)
        columns = to_host(attention_scores, added, encoded.frames)
        attention, weighted, frames = (x.tolist() for x in columns)
        fused = iter(weighted)
        # 3. Interpolate and choose.
        out = []
        for listed, scores in zip(lists, attention, strict=True):
            scored = [
                replace(
                    h,
                    score=self.ctc_weight * h.score
                    + self.attention_weight * scores[k]
                    + self.penalty * len(h.tokens)
                    + next(fused),
                    counts={**h.counts, "decoder_passes": 1, "candidates": len(listed)},
                )
                for k, h in enumerate(listed)
            ]
            scored.sort(key=lambda h: -h.score)
            best = scored[0]
            out.append(replace(best, nbest=tuple(scored[: self.nbest])) if self.nbest > 1 else best)
        return [h if count else NOTHING_SAID for h, count in zip(out, frames, strict=True)]

    @staticmethod
    def _reverse(model: HybridModel, encoded: Encoded, candidates: Sequence[Sequence[tuple[int, ...]]]) -> Tensor:
        """The log-probabilities (B, K) of the candidates by the decoder from right to left."""
        decoder = reverse_rows(model)
        cross = decoder.cross_cache(encoded.states, encoded.frames)
        turned = [[tokens[::-1] for tokens in listed] for listed in candidates]
        return sequence_scores(decoder, cross, encoded.prompts, turned, model.special.eos)

    def _fused(self, model: HybridModel, encoded: Encoded, candidates: Sequence[Sequence[tuple[int, ...]]]) -> Tensor:
        """What a language model and phrases add to the score of each candidate in turn, 0 without them."""
        texts = [tokens for found in candidates for tokens in found]
        added = fusions(self, model, encoded)
        total = torch.zeros(len(texts), device=encoded.device)
        return total + fused_scores(added, Contexts.whole(len(texts), model.special.eos), texts)
