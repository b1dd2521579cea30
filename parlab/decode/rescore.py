"""Attention rescoring: CTC n-best, one decoder pass over all candidates, interpolation (Zhang et al. 2020, U2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from parlab.decode.base import Decoder
from parlab.decode.ctc_beam import check_beam, prefix_beam, prefix_hypotheses
from parlab.decode.fusion import lm_scores
from parlab.decode.prompts import Prompt, check_transcription, prompts_for
from parlab.decode.verification import sequence_scores
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Rescore(Decoder):
    """Choose among CTC's n-best by ``attention_weight`` * decoder + ``ctc_weight`` * CTC + ``penalty`` * tokens.

    Attributes:
        beam_size: candidates per utterance.
        ctc_weight, attention_weight: of the two log-probabilities.
        penalty: bonus per token.
        lm: folder of an ESPnet language model; ``lm_weight`` of its log-probability.
        nbest: hypotheses returned.
        token_beam: as for ``ctc_beam``.
    """

    name: ClassVar[str] = "rescore"

    beam_size: int = 10
    ctc_weight: float = 0.5
    attention_weight: float = 0.5
    penalty: float = 0.0
    lm: str | None = None
    lm_weight: float = 0.3
    nbest: int = 1
    token_beam: int = 20

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
        """Decode ``encoder_out`` (B, T, D) of ``lengths`` (B,); the score is the interpolated one."""
        check_transcription(model, prompt, self.name)
        decoder = model.rows
        special = model.special
        log_probs = model.ctc_log_probs(encoder_out) if ctc_log_probs is None else ctc_log_probs
        prefixes = prefix_beam(log_probs, lengths, special.blank, self.beam_size, self.token_beam)
        lists = [h.nbest or (h,) for h in prefix_hypotheses(prefixes, log_probs, self.beam_size)]
        prompts = prompts_for(model, prompt, len(encoder_out))
        cross = decoder.cross_cache(encoder_out, lengths)
        candidates = [[h.tokens for h in listed] for listed in lists]
        attention = sequence_scores(decoder, cross, prompts, candidates, special.eos).tolist()
        flat = [(*tokens, special.eos) for found in candidates for tokens in found]
        starts = [(special.sos,)] * len(flat)
        language = iter(lm_scores(self.lm, self.lm_weight, starts, flat, model.vocab_size, encoder_out.device).tolist())
        out = []
        for listed, heard in zip(lists, attention, strict=True):
            scored = [
                replace(
                    h,
                    score=self.ctc_weight * h.score
                    + self.attention_weight * heard[k]
                    + self.penalty * len(h.tokens)
                    + next(language),
                    counts={**h.counts, "decoder_passes": 1, "candidates": len(listed)},
                )
                for k, h in enumerate(listed)
            ]
            scored.sort(key=lambda h: -h.score)
            best = scored[0]
            out.append(replace(best, nbest=tuple(scored[: self.nbest])) if self.nbest > 1 else best)
        return out
