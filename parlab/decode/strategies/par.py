"""Partially autoregressive decoding: the draft where CTC is sure, a beam search where it is not.

Arora et al. and Someki et al. (arXiv:2309.14922); ``docs/par.md`` has the definition. One teacher-forced pass over the
draft serves all segments of all utterances: it gives their first step and their shared prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from parlab.decode.assembly import assemble, unmasked
from parlab.decode.base import Decoder, check_transcription
from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.draft import Draft, draft_hypotheses, greedy_draft
from parlab.decode.fills import Choice, FillScoring, choose_fills, read_fills, score_drafts
from parlab.decode.fusion import Fusion, fusion
from parlab.decode.masking import UNITS, mask_below, mask_words
from parlab.decode.prefill import Prefill
from parlab.decode.scorers import AnyScorer
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from parlab.decode.segments import Segments, find_segments
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class PAR(Decoder):
    """Mask draft tokens below ``threshold`` and decode each run of masked tokens again.

    Attributes:
        threshold: confidence (a probability) below which a draft token is masked; higher masks more.
        mask_unit: ``"token"``, or ``"word"``: every word with a token below the threshold is masked as a whole.
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
    """

    name: ClassVar[str] = "par"
    ESPNET: ClassVar[Mapping[str, Any]] = {
        "threshold": 0.99,
        "mask_unit": "token",
        "max_seq_len": 5,
        "ctc_weight": 0.0,
        "length_normalize": False,
        "nbest": 1,
    }

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
    mask_unit: str = "token"

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def espnet(cls, **options: Any) -> PAR:
        """ESPnet's setting, without its driver's defects: threshold 0.99, fills of at most 5 tokens, no CTC.

        Args:
            options: those that ESPnet's setting leaves open, as ``beam_size``.

        Raises:
            UserError: one of ``options`` has another value there.
        """
        for name, value in options.items():
            if name in cls.ESPNET and value != cls.ESPNET[name]:
                raise UserError(
                    f"the option {name} is {value!r}, but ESPnet's reference has {cls.ESPNET[name]!r}; leave out one of the two"
                )
        return cls(**{**options, **cls.ESPNET})

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        fusion(self.lm, self.lm_weight, model, device)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """The score of a hypothesis is the sum of its segments' scores, 0 when nothing was masked."""
        check_transcription(model, encoded.prompts, self.name)
        decoder = model.rows
        # 1. Greedy CTC writes the draft; tokens below the threshold are masked. From here on drafts and segments lie on the host.
        draft = greedy_draft(encoded.posteriors, encoded.frames, model.special.blank).to_host()
        masked = mask_below(draft, self.threshold)
        if self.mask_unit == "word":
            masked = mask_words(draft, masked, model.word_edges(masked.device))
        segments = find_segments(draft, masked)
        greedy = draft_hypotheses(draft)
        if len(segments) == 0:
            return unmasked(greedy)
        # 2. One teacher-forced pass over the drafts that have masks serves all segments.
        with_masks = list(dict.fromkeys(segments.owner.tolist()))
        prefill = Prefill.of(decoder, encoded, [h.tokens for h in greedy], with_masks)
        language = fusion(self.lm, self.lm_weight, model, encoded.device)
        search = SegmentSearch(self, model, prefill, encoded.posteriors, draft, greedy, language)
        # 3. The segments are searched, all at once or some at a time, and put back.
        size = len(segments) if self.max_mask_parallel < 0 else self.max_mask_parallel
        chunks = [segments.chunk(i, i + size) for i in range(0, len(segments), size)]
        choices = [search.fill(chunk) for chunk in chunks]
        return assemble(greedy, segments, read_fills(choices, segments, greedy))


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
    elif options.mask_unit not in UNITS:
        wrong = f"mask_unit is {options.mask_unit!r}, expected 'token' or 'word'"
    elif options.nbest < 1 or options.margin < 0:
        wrong = f"nbest is {options.nbest} and margin {options.margin}, expected at least 1 and 0"
    if wrong:
        raise UserError(f"the option {wrong}; correct it")


@dataclass(frozen=True)
class SegmentSearch:
    """The search of segments, and what all segments of a batch share.

    Attributes:
        prefill: the pass over prompts and drafts.
        log_probs: (B, T, V) CTC's log-posteriors.
        draft, greedy: the drafts as tensors on the host, and as hypotheses.
        language: the language model of shallow fusion, or None.
    """

    options: PAR
    model: HybridModel
    prefill: Prefill
    log_probs: Tensor
    draft: Draft
    greedy: Sequence[Hypothesis]
    language: Fusion | None

    def fill(self, segments: Segments) -> Choice:
        """The best fill of each segment; ``segments`` lie on the host."""
        options = self.options
        stop = segments.stops(self.model.special.eos)
        ctc = self._ctc(segments)
        in_search = ctc is not None and options.ctc_mode == "prefix"
        scoring = FillScoring(ctc, options.ctc_weight, in_search, options.length_normalize)
        # With CTC the draft is a candidate: its score is the one to beat.
        drafts = bound = None
        if ctc is not None:
            drafts = score_drafts(self.prefill, self.draft, segments, stop, ctc)
            if self.language is not None:
                drafts = replace(drafts, language=self._language_of_drafts(self.language, segments, stop))
            if in_search and not options.length_normalize and options.nbest == 1:
                bound = drafts.joint(scoring)
        groups = Groups.on_device(self.log_probs.device, stop, self._limits(segments), bound=bound)
        ended = beam_search(self._scorers(segments, scoring), groups, self._beam(scoring))
        return choose_fills(ended, segments, drafts, scoring)

    def _limits(self, segments: Segments) -> Tensor:
        """Tokens (S,) of a fill at most, the stop token included."""
        length = segments.end - segments.start
        if self.options.max_seq_len == "auto":
            return length + self.options.margin + 1
        return torch.full_like(length, int(self.options.max_seq_len))

    def _beam(self, scoring: FillScoring) -> BeamOptions:
        """As many ended hypotheses as are asked for, or as will be rescored; no special symbols in fills."""
        options, special = self.options, self.model.special
        rescored = scoring.ctc is not None and not scoring.in_search
        nbest = max(options.nbest, options.beam_size) if rescored else options.nbest
        banned = special.never if options.allow_unk or special.unk is None else (*special.never, special.unk)
        return BeamOptions(options.beam_size, nbest, banned, options.length_normalize)

    def _scorers(self, segments: Segments, scoring: FillScoring) -> list[AnyScorer]:
        """The decoder, which reads prompt and draft before each segment, and the scorers that the options ask for."""
        weight = 1.0 - scoring.ctc_weight if scoring.in_search else 1.0
        prefix_length = self.prefill.prompt_lengths[segments.owner] + segments.start
        scorers: list[AnyScorer] = [self.prefill.scorer(segments.owner, prefix_length, weight)]
        if self.language is not None:  # it reads the draft before each segment
            prefixes = [(self.model.special.sos, *before) for before, _ in self._around(segments)]
            scorers.append(self.language.scorer(prefixes))
        if scoring.ctc is not None and scoring.in_search:
            scorers.append(scoring.ctc)
        return scorers

    def _ctc(self, segments: Segments) -> CTCPrefixScorer | None:
        """CTC over the segments' windows."""
        if self.options.ctc_weight == 0:
            return None
        length = segments.last - segments.first + 1
        neighbours = (segments.left, segments.right)
        windows = Windows(self.log_probs, segments.owner, segments.first, length, *neighbours, self.model.special.blank)
        return CTCPrefixScorer(windows, self.options.ctc_weight)

    def _language_of_drafts(self, language: Fusion, segments: Segments, stop: Tensor) -> Tensor:
        """The language model's weighted score (S,) of the segments' own tokens and stop tokens."""
        around = self._around(segments)
        prefixes = [(self.model.special.sos, *before) for before, _ in around]
        inside = [(*own, end) for (_, own), end in zip(around, stop.tolist(), strict=True)]
        return language.scores(prefixes, inside)

    def _around(self, segments: Segments) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The draft tokens before each segment, and those in it."""
        ranges = zip(segments.owner.tolist(), segments.start.tolist(), segments.end.tolist(), strict=True)
        drafts = [h.tokens for h in self.greedy]
        return [(drafts[owner][:start], drafts[owner][start:end]) for owner, start, end in ranges]
