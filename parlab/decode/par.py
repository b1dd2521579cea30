"""Partially autoregressive decoding: the draft where CTC is sure, a beam search where it is not.

Arora et al. and Someki et al. (arXiv:2309.14922); design.md, section 3. One teacher-forced pass over the
draft serves all segments of all utterances: it gives their first step and their shared prefix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.base import Decoder
from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.draft import Draft, greedy_draft
from parlab.decode.fills import DraftScores, Fill, best_fills, score_drafts
from parlab.decode.fusion import lm_scorer, lm_scores
from parlab.decode.greedy import draft_hypotheses
from parlab.decode.prompts import Prompt, check_transcription, pad_tokens, prompts_for
from parlab.decode.scorers import Scorer
from parlab.decode.scorers.attention import AttentionScorer
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from parlab.decode.scorers.language_model import LanguageModelScorer
from parlab.decode.segments import Segments, assemble, find_segments, mask_below
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.model.rows import CrossCache, PrefixCache, RowDecoder
from parlab.types import Hypothesis, Segment

ESPNET = {"threshold": 0.99, "max_seq_len": 5, "ctc_weight": 0.0, "length_normalize": False, "nbest": 1}


@dataclass(frozen=True)
class PAR(Decoder):
    """Mask draft tokens below ``threshold`` and decode each run of masked tokens again.

    Attributes:
        threshold: confidence (a probability) below which a draft token is masked; higher masks more.
        beam_size: live hypotheses per segment.
        max_seq_len: tokens of a fill at most; ``"auto"``: the segment's own length plus ``margin``.
        margin: tokens that a fill may be longer than its segment when ``max_seq_len`` is ``"auto"``.
        max_mask_parallel: segments searched at a time, -1 for all; bounds memory, never changes the result.
        ctc_weight: weight of the CTC score of a fill over its segment's own window of frames, 0 to 1. Above 0 the
            draft itself is always among the candidates; 0 is the decoder alone (the reference).
        ctc_mode: ``"prefix"`` scores with CTC inside the search, ``"rescore"`` only the n-best of the decoder.
        length_normalize: choose among a segment's hypotheses by score per token.
        nbest: ended hypotheses kept per segment; with ``"rescore"`` those are rescored (at least ``beam_size``).
        lm: folder of an ESPnet language model for shallow fusion in the search; ``lm_weight`` of its log-probability.
        allow_unk: whether a fill may hold ``<unk>``.
        reference: ``"espnet"`` sets ESPnet's (mended) behaviour: 0.99, 5 tokens, no CTC.
    """

    name: ClassVar[str] = "par"

    threshold: float = 0.9
    beam_size: int = 10
    max_seq_len: int | str = "auto"
    margin: int = 3
    max_mask_parallel: int = -1
    ctc_weight: float = 0.5
    ctc_mode: str = "prefix"
    length_normalize: bool = False
    nbest: int = 1
    lm: str | None = None
    lm_weight: float = 0.3
    allow_unk: bool = False
    reference: str | None = None

    def __post_init__(self) -> None:
        if self.reference == "espnet":
            for name, value in ESPNET.items():
                object.__setattr__(self, name, value)
        _check(self)

    def decode(
        self,
        model: HybridModel,
        encoder_out: Tensor,
        lengths: Tensor,
        prompt: Prompt = None,
        ctc_log_probs: Tensor | None = None,
    ) -> list[Hypothesis]:
        """Decode ``encoder_out`` (B, T, D) of ``lengths`` (B,).

        The score of a hypothesis is the sum of its segments' scores, 0 when nothing was masked.

        Raises:
            UserError: the model lacks a CTC head or an attention decoder.
        """
        check_transcription(model, prompt, self.name)
        decoder = model.rows
        log_probs = model.ctc_log_probs(encoder_out) if ctc_log_probs is None else ctc_log_probs
        draft = greedy_draft(log_probs, lengths, model.special.blank)
        segments = find_segments(draft, mask_below(draft, self.threshold))
        if len(segments) == 0:
            return [_unmasked(h) for h in draft_hypotheses(draft)]
        prompts = prompts_for(model, prompt, len(encoder_out))
        search = SegmentSearch.prepare(self, model, decoder, encoder_out, lengths, log_probs, draft, prompts)
        size = len(segments) if self.max_mask_parallel < 0 else self.max_mask_parallel
        chunks = [segments.chunk(i, i + size) for i in range(0, len(segments), size)]
        fills = [fill for chunk in chunks for fill in search.fill(chunk)]
        return _assemble(draft, segments, fills)


def _check(options: PAR) -> None:
    wrong = None
    if not 0.0 <= options.threshold <= 1.0 + 1e-6:
        wrong = f"threshold is {options.threshold}, expected a probability from 0 to 1"
    elif options.beam_size < 1:
        wrong = f"beam_size is {options.beam_size}, expected at least 1"
    elif options.max_seq_len != "auto" and (isinstance(options.max_seq_len, str) or options.max_seq_len < 1):
        wrong = f"max_seq_len is {options.max_seq_len!r}, expected a number of tokens from 1 or 'auto'"
    elif options.max_mask_parallel == 0 or options.max_mask_parallel < -1:
        wrong = f"max_mask_parallel is {options.max_mask_parallel}, expected a number of segments, or -1 for all"
    elif not 0.0 <= options.ctc_weight <= 1.0:
        wrong = f"ctc_weight is {options.ctc_weight}, expected a weight from 0 to 1"
    elif options.ctc_mode not in {"prefix", "rescore"}:
        wrong = f"ctc_mode is {options.ctc_mode!r}, expected 'prefix' or 'rescore'"
    elif options.nbest < 1 or options.margin < 0:
        wrong = f"nbest is {options.nbest} and margin {options.margin}, expected at least 1 and 0"
    elif options.reference not in {None, "espnet"}:
        wrong = f"reference is {options.reference!r}, expected 'espnet' or nothing"
    if wrong:
        raise UserError(f"the option {wrong}; correct it")


@dataclass(frozen=True)
class SegmentSearch:
    """What all segments of a batch share: caches, hidden states of the draft, posteriors."""

    options: PAR
    model: HybridModel
    decoder: RowDecoder
    cross: CrossCache
    prefix: PrefixCache
    hidden: Tensor  # (B, P + U, D): place i predicts token i + 1 of prompt and draft
    prompt_lengths: Tensor  # (B,)
    log_probs: Tensor
    draft: Draft

    @staticmethod
    def prepare(
        options: PAR,
        model: HybridModel,
        decoder: RowDecoder,
        encoder_out: Tensor,
        lengths: Tensor,
        log_probs: Tensor,
        draft: Draft,
        prompts: list[tuple[int, ...]],
    ) -> SegmentSearch:
        """The one teacher-forced pass over prompts and drafts."""
        drafts = [row[:n] for row, n in zip(draft.tokens.tolist(), draft.lengths.tolist(), strict=True)]
        whole = [[*p, *d] for p, d in zip(prompts, drafts, strict=True)]
        tokens, _ = pad_tokens(whole, encoder_out.device)
        _, prompt_lengths = pad_tokens(prompts, encoder_out.device)
        cross = decoder.cross_cache(encoder_out, lengths)
        hidden, prefix = decoder.prefill(tokens, cross)
        return SegmentSearch(options, model, decoder, cross, prefix, hidden, prompt_lengths, log_probs, draft)

    def fill(self, segments: Segments) -> list[Fill]:
        """The best fill of each segment."""
        options, special = self.options, self.model.special
        length = segments.end - segments.start
        limit = length + options.margin + 1
        if options.max_seq_len != "auto":
            limit = torch.full_like(length, int(options.max_seq_len))
        stop = torch.where(segments.right < 0, special.eos, segments.right)
        ctc = self._ctc(segments)
        prefix_length = self.prompt_lengths[segments.owner] + segments.start
        scorers: list[Scorer] = [self._attention(segments, prefix_length)]
        language = self._language(segments)
        if language is not None:
            scorers.append(language)
        drafts: DraftScores | None = None
        groups = Groups(stop, limit)
        in_search = ctc is not None and options.ctc_mode == "prefix"
        if ctc is not None:
            drafts = score_drafts(self.decoder, self.hidden, self.draft, segments, prefix_length, stop, ctc)
            drafts = replace(drafts, language=self._language_of_drafts(segments, stop))
            if in_search:
                scorers.append(ctc)
                if not options.length_normalize and options.nbest == 1:
                    groups = Groups(stop, limit, bound=drafts.joint(options.ctc_weight, in_search))
        nbest = max(options.nbest, options.beam_size) if ctc is not None and not in_search else options.nbest
        banned = special.never if options.allow_unk or special.unk is None else (*special.never, special.unk)
        beam = BeamOptions(options.beam_size, nbest, banned, options.length_normalize)
        ended = beam_search(scorers, groups, beam)
        return best_fills(
            ended, segments, self.draft, drafts, ctc, options.ctc_weight, in_search, options.length_normalize
        )

    def _attention(self, segments: Segments, prefix_length: Tensor) -> AttentionScorer:
        hidden = self.hidden[segments.owner, prefix_length - 1]
        weight = 1.0
        if self.options.ctc_weight > 0 and self.options.ctc_mode == "prefix":
            weight = 1.0 - self.options.ctc_weight
        return AttentionScorer(self.decoder, self.cross, self.prefix, segments.owner, prefix_length, hidden, weight)

    def _language(self, segments: Segments) -> LanguageModelScorer | None:
        """The language model reads the draft before each segment."""
        options, vocabulary = self.options, self.model.vocab_size
        prefixes = [(self.model.special.sos, *before) for before, _ in self._around(segments)] if options.lm else []
        return lm_scorer(options.lm, options.lm_weight, prefixes, vocabulary, self.hidden.device)

    def _language_of_drafts(self, segments: Segments, stop: Tensor) -> Tensor:
        """Its weighted score (S,) of the segments' own tokens and stop tokens."""
        options, vocabulary = self.options, self.model.vocab_size
        around = self._around(segments) if options.lm else [([], [])] * len(segments)
        prefixes = [(self.model.special.sos, *before) for before, _ in around]
        inside = [(*own, end) for (_, own), end in zip(around, stop.tolist(), strict=True)]
        return lm_scores(options.lm, options.lm_weight, prefixes, inside, vocabulary, self.hidden.device)

    def _around(self, segments: Segments) -> list[tuple[list[int], list[int]]]:
        """The draft tokens before each segment, and those in it."""
        drafts = self.draft.tokens.tolist()
        places = zip(segments.owner.tolist(), segments.start.tolist(), segments.end.tolist(), strict=True)
        return [(drafts[owner][:start], drafts[owner][start:end]) for owner, start, end in places]

    def _ctc(self, segments: Segments) -> CTCPrefixScorer | None:
        if self.options.ctc_weight == 0:
            return None
        length = segments.last - segments.first + 1
        windows = Windows(
            self.log_probs,
            segments.owner,
            segments.first,
            length,
            segments.left,
            segments.right,
            self.model.special.blank,
        )
        return CTCPrefixScorer(windows, self.options.ctc_weight)


def _unmasked(hypothesis: Hypothesis) -> Hypothesis:
    counts = {**hypothesis.counts, **_counts([], 0)}
    return Hypothesis(hypothesis.tokens, 0.0, hypothesis.token_confidence, hypothesis.token_frames, counts=counts)


def _counts(fills: list[Fill], masked: int) -> dict[str, float]:
    """What the metrics add up; steps are those of the utterance's longest search."""
    return {
        "masked_tokens": masked,
        "segments": len(fills),
        "decoder_passes": 1 if fills else 0,
        "decoder_steps": max((fill.steps for fill in fills), default=0),
        "forced_stops": sum(fill.forced for fill in fills),
    }


def _assemble(draft: Draft, segments: Segments, fills: list[Fill]) -> list[Hypothesis]:
    owners, starts, ends = segments.owner.tolist(), segments.start.tolist(), segments.end.tolist()
    windows = list(zip(segments.first.tolist(), segments.last.tolist(), strict=True))
    out = []
    for i, greedy in enumerate(draft_hypotheses(draft)):
        mine = [s for s, owner in enumerate(owners) if owner == i]
        parts = [
            Segment(
                starts[s], ends[s], greedy.tokens[starts[s] : ends[s]], fills[s].tokens, fills[s].score, fills[s].forced
            )
            for s in mine
        ]
        whole = assemble(
            list(greedy.tokens),
            list(greedy.token_confidence),
            list(greedy.token_frames),
            parts,
            [list(fills[s].confidence) for s in mine],
            [windows[s] for s in mine],
        )
        masked = sum(part.end - part.start for part in parts)
        counts = {"tokens": len(greedy.tokens), **_counts([fills[s] for s in mine], masked)}
        score = sum(part.score for part in parts)
        out.append(Hypothesis(whole.tokens, score, whole.confidence, whole.frames, tuple(parts), counts=counts))
    return out
