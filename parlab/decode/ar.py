"""Autoregressive decoding: a label-synchronous beam over many utterances at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.base import Decoder
from parlab.decode.beam import BeamOptions, Ended, Groups, beam_search
from parlab.decode.fusion import lm_scorer
from parlab.decode.prompts import Prompt, check_transcription, pad_tokens, prompts_for
from parlab.decode.scorers import Scorer
from parlab.decode.scorers.attention import AttentionScorer
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from parlab.decode.scorers.length import LengthBonus
from parlab.decode.scorers.timestamps import TimestampRules
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class AR(Decoder):
    """Attention beam search, joint with CTC prefix scores unless ``ctc_weight`` is 0.

    The options mean what they mean in ESPnet's ``BatchBeamSearch``, and give its results.

    Attributes:
        beam_size: live hypotheses per utterance; 1 is greedy, with caches.
        ctc_weight: weight of the CTC prefix score, 0 to 1; the decoder gets 1 minus it.
        penalty: bonus per token (ESPnet's ``penalty``).
        maxlenratio: most tokens as a share of encoder frames; 0: all frames, with end detection; below 0: a number.
        minlenratio: fewest tokens, likewise.
        normalize_length: rank hypotheses by score per token.
        nbest: hypotheses returned per utterance.
        ctc_margin: frames around the newest token in which CTC looks for the next one; 0: all frames, exactly.
        pre_beam_ratio: candidates that CTC scores per hypothesis, as a multiple of the beam.
        lm: folder of an ESPnet language model for shallow fusion; ``lm_weight`` of its log-probability.
        allow_special: let the decoder emit blank and other special symbols, as ESPnet does.
    """

    name: ClassVar[str] = "ar"

    beam_size: int = 10
    ctc_weight: float = 0.3
    penalty: float = 0.0
    maxlenratio: float = 0.0
    minlenratio: float = 0.0
    normalize_length: bool = False
    nbest: int = 1
    ctc_margin: int = 0
    pre_beam_ratio: float = 1.5
    lm: str | None = None
    lm_weight: float = 0.3
    allow_special: bool = False

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.nbest < 1:
            raise UserError(
                f"the options beam_size and nbest are {self.beam_size} and {self.nbest}, expected at least 1; correct them"
            )
        if self.pre_beam_ratio < 1:
            raise UserError(f"the option pre_beam_ratio is {self.pre_beam_ratio}, expected at least 1; correct it")
        if self.ctc_margin < 0:
            raise UserError(f"the option ctc_margin is {self.ctc_margin}, expected frames, or 0 for all; correct it")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise UserError(f"the option ctc_weight is {self.ctc_weight}, expected a weight from 0 to 1; correct it")

    def _banned(self, model: HybridModel, times: TimestampRules | None) -> tuple[int, ...]:
        """Symbols that are never written; the rules of timestamps look after the time symbols themselves."""
        if self.allow_special:
            return ()
        if times is None:
            return model.special.never
        return tuple(i for i in model.special.never if not times.first_time <= i <= times.last_time)

    def decode(
        self,
        model: HybridModel,
        encoder_out: Tensor,
        lengths: Tensor,
        prompt: Prompt = None,
        ctc_log_probs: Tensor | None = None,
    ) -> list[Hypothesis]:
        """Decode ``encoder_out`` (B, T, D) of ``lengths`` (B,); the score is ESPnet's.

        Raises:
            UserError: the model lacks an attention decoder, or a CTC head that ``ctc_weight`` asks for.
        """
        decoder = model.rows
        prompts = prompts_for(model, prompt, len(encoder_out))
        tokens, prompt_lengths = pad_tokens(prompts, encoder_out.device)
        cross = decoder.cross_cache(encoder_out, lengths)
        hidden, prefix = decoder.prefill(tokens, cross)
        owner = torch.arange(len(lengths), device=lengths.device)
        first = hidden[owner, prompt_lengths - 1]
        scorers: list[Scorer] = [
            AttentionScorer(decoder, cross, prefix, owner, prompt_lengths, first, 1.0 - self.ctc_weight)
        ]
        primers = [(model.special.sos,)] * len(prompts)
        language = lm_scorer(self.lm, self.lm_weight, primers, model.vocab_size, encoder_out.device)
        if language is not None:
            scorers.append(language)
        times = timestamp_rules(model, prompts, encoder_out.device)
        if times is not None:
            scorers.append(times)
        if self.ctc_weight > 0:
            if times is not None and bool(times.timed.any()):
                raise UserError(
                    "CTC cannot score timestamps, expected ctc_weight 0 with them; set --decoder.ctc_weight 0"
                )
            check_transcription(model, prompts, "ctc_weight above 0")
            log_probs = model.ctc_log_probs(encoder_out) if ctc_log_probs is None else ctc_log_probs
            windows = Windows.whole(log_probs, lengths, model.special.blank)
            scorers.append(CTCPrefixScorer(windows, self.ctc_weight, self.ctc_margin))
        if self.penalty != 0:
            scorers.append(LengthBonus(self.penalty))
        groups = Groups(
            stop=torch.full_like(lengths, model.special.eos),
            max_length=length_limit(self.maxlenratio, lengths, at_zero=lengths).clamp(min=1),
            min_length=length_limit(self.minlenratio, lengths, at_zero=torch.zeros_like(lengths)),
        )
        options = BeamOptions(
            beam_size=self.beam_size,
            nbest=self.nbest,
            banned=self._banned(model, times),
            normalize_length=self.normalize_length,
            force_all=True,
            end_detection=1 + max(len(p) for p in prompts) if self.maxlenratio == 0 else 0,
            pre_beam_ratio=self.pre_beam_ratio,
        )
        found = ended_hypotheses(beam_search(scorers, groups, options))
        empty = [i for i, h in enumerate(found) if h.score == float("-inf")]
        if empty and self.minlenratio >= 0.1:  # as ESPnet: nothing was long enough, so ask for less
            less = replace(self, minlenratio=max(0.0, self.minlenratio - 0.1))
            index = torch.tensor(empty, device=lengths.device)
            known = None if ctc_log_probs is None else ctc_log_probs[index]
            again = less.decode(model, encoder_out[index], lengths[index], [prompts[i] for i in empty], known)
            for i, hypothesis in zip(empty, again, strict=True):
                found[i] = hypothesis
        return [h if h.score > float("-inf") else replace(h, score=0.0) for h in found]


def timestamp_rules(
    model: HybridModel, prompts: Sequence[tuple[int, ...]], device: torch.device
) -> TimestampRules | None:
    """The rules of time symbols, where an utterance may write them or the model has them."""
    s2t = model.s2t
    if s2t is None or s2t.first_time is None or s2t.last_time is None:
        return None
    timed = torch.tensor([s2t.notimestamps not in prompt for prompt in prompts], device=device)
    return TimestampRules(timed, s2t.first_time, s2t.last_time, model.special.eos, model.vocab_size)


def length_limit(ratio: float, lengths: Tensor, at_zero: Tensor) -> Tensor:
    """ESPnet's length ratios as tokens (B,): a share of the frames, or below 0 a number."""
    if ratio == 0:
        return at_zero
    if ratio < 0:
        return torch.full_like(lengths, int(-ratio))
    return (lengths.double() * ratio).long()


def ended_hypotheses(ended: Ended) -> list[Hypothesis]:
    """The groups of a search as hypotheses, with n-best lists where more than one was kept."""
    out = []
    columns = (ended.score, ended.tokens, ended.lengths, ended.token_scores.exp(), ended.forced, ended.steps)
    for scores, tokens, lengths, confidence, forced, steps in zip(*(c.tolist() for c in columns), strict=True):
        found = [
            Hypothesis(
                tokens=tuple(tokens[i][: lengths[i]]),
                score=score,
                token_confidence=tuple(confidence[i][: lengths[i]]),
                counts={
                    "tokens": lengths[i],
                    "decoder_passes": 1,
                    "decoder_steps": steps,
                    "forced_stops": int(forced[i]),
                },
            )
            for i, score in enumerate(scores)
            if score > float("-inf")
        ]
        best = found[0] if found else Hypothesis((), float("-inf"))
        if len(scores) > 1:
            best = Hypothesis(best.tokens, best.score, best.token_confidence, nbest=tuple(found), counts=best.counts)
        out.append(best)
    return out
