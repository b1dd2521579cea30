"""Partially autoregressive decoding: the draft where CTC is sure, a beam search where it is not.

Arora et al. and Someki et al. (arXiv:2309.14922); ``docs/par.md`` has the definition. One teacher-forced pass over the
draft serves all segments of all utterances: it gives their first step and their shared prefix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch

from parlab.decode.assembly import assemble, unmasked
from parlab.decode.base import Decoder, check_transcription
from parlab.decode.confidence.fitted import check_fitted
from parlab.decode.confidence.judging import judge
from parlab.decode.confidence.measure import DEFAULT, find_measure
from parlab.decode.corrections.passes import CorrectionOptions, corrected
from parlab.decode.drafters.drafter import BEST_PATH, find_drafter
from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.rounds import CONTEXTS, RoundOptions, Rounds
from parlab.decode.filling.segment_search import FillOptions, SegmentSearch, check_letters
from parlab.decode.fused.opening import open_places
from parlab.decode.fusion import Fusion, PhraseFusion, fusions, prepare_fusion
from parlab.decode.masking import UNITS, Masks
from parlab.decode.policies.policy import Doubts, find_policies
from parlab.decode.prefill import Passed
from parlab.decode.segments import find_segments
from parlab.errors import UserError, nearest
from parlab.model.encoded import Encoded
from parlab.model.families.wenet.model import reverse_rows
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class PAR(Decoder):
    """Mask draft tokens below ``threshold`` and decode each run of masked tokens again.

    Attributes:
        threshold: confidence (a probability) below which a draft token is masked; higher masks more.
        mask_unit: ``"token"``, or ``"word"``: every word with a token below the threshold is masked as a whole. The draft of
            a head with a vocabulary of its own is always masked by words.
        beam_size: live hypotheses per segment.
        max_seq_len: steps of a segment's search at most. The stop token takes one: a fill that ends has fewer tokens, one
            that is forced to stop (``ctc_weight`` 0) as many. ``"auto"``: the segment's own length plus ``margin`` plus 1.
        margin: tokens that a fill which ends may be longer than its segment when ``max_seq_len`` is ``"auto"``.
        max_mask_parallel: segments searched at a time, -1 for all; bounds memory, never changes the result.
        ctc_weight: weight of the CTC score of a fill over its segment's own window of frames, 0 to 1. Above 0 the
            draft itself is always among the candidates; 0 is the decoder alone (the reference).
        ctc_mode: ``"prefix"`` scores with CTC inside the search, ``"rescore"`` only the n-best of the decoder.
        length_normalize: choose among a segment's hypotheses by score per token.
        nbest: ended hypotheses kept per segment; with ``"rescore"`` those are rescored (at least ``beam_size``).
        lm: folder of an ESPnet language model, or an ARPA or KenLM file over the decoder's tokens, for shallow fusion; ``lm_weight`` of
            its log-probability.
        phrases: file of phrases that are boosted in fills, one a line with or without a tab and a weight (``docs/guides/phrases.md``).
        phrase_weight: nats per token of a phrase of weight 1.
        phrase_margin: a sure draft token is masked too, with as many tokens after it as the phrase has, where CTC gives a phrase's
            first token a posterior so many nats below its best one at most; 0 masks none for phrases, nor does the draft of a
            head with a vocabulary of its own.
        allow_unk: whether a fill may hold ``<unk>``.
        context: what the decoder reads before a segment: ``"draft"``, so that all segments are searched at once, or
            ``"fills"``: an utterance's segments are searched from left to right, each after the fills before it.
        draft: who writes the draft, by name, with its options: ``best_path``, or ``prefix_beam`` with n-grams of CTC's tokens (a draft
            head's, where there is one): ``prefix_beam:lm=letters.arpa,lm_weight=0.4,bonus=0.5``.
        measure: confidence measure, by name, with its options: ``posterior``, ``mean``, ``margin``, ``gibbs``, ``tsallis``,
            ``renyi``, ``decoder``, ``rank``, ``product``, ``learned`` (``tsallis:alpha=0.5,temperature=1.2``).
        length_tolerance: share of its draft's letters (tokens, where CTC has the decoder's vocabulary) by which a fill may be shorter or
            longer, and 3 besides: a stop token that comes before is a token like others. None: a fill may have any length.
        policy: masking policy, by name, with its options: ``threshold``, ``budget``, ``context``, ``gaps``; several with ``+``
            between them are applied from left to right (``budget:share=0.1+gaps:below=0.8``).
        corrections: passes at most in which the decoder corrects the draft before anything is masked; 0 leaves the draft to CTC.
        correct_below: a token is corrected where the decoder gives it less than this share of what it gives its best token.
        rounds: of filling. From the second on the decoder passes over the filled text, all tokens to which it gives less than
            ``threshold`` are masked, and a segment with one (or before one) is searched again where the text before it has changed.
        widen: from the second round on a segment takes the token (a head's word) after it in, where it holds a token to which the
            decoder gives less than this share of its best token's probability: what follows, if it is wrong, keeps the right fill out.
        reverse_weight: share of the decoder from right to left in the decoder's score of the n-best of a segment (at least
            ``beam_size`` of them): it reads the text after the segment first (WeNet's U2++, which trains it with 0.3).
        fill_temperature: by which the logarithms of the confidences of a fill's tokens are divided, so that they are calibrated; ``tune``
            finds it. It changes no text.
    """

    name: ClassVar[str] = "par"
    ESPNET: ClassVar[Mapping[str, Any]] = {
        "threshold": 0.99,
        "mask_unit": "token",
        "max_seq_len": 5,
        "ctc_weight": 0.0,
        "length_normalize": False,
        "nbest": 1,
        "context": "draft",
        "corrections": 0,
        "rounds": 1,
        "widen": 0.0,
        "length_tolerance": None,
        "draft": BEST_PATH,
        "measure": DEFAULT,
        "policy": "threshold",
        "reverse_weight": 0.0,
    }

    threshold: float = 0.9
    beam_size: int = 10
    max_seq_len: int | str = "auto"
    margin: int = 3
    max_mask_parallel: int = -1
    ctc_weight: float = 0.3
    ctc_mode: str = "prefix"
    length_normalize: bool = False
    nbest: int = 1
    lm: str | None = None
    lm_weight: float = 0.3
    phrases: str | None = None
    phrase_weight: float = 1.0
    phrase_margin: float = 3.0
    allow_unk: bool = False
    mask_unit: str = "token"
    context: str = "draft"
    corrections: int = 0
    correct_below: float = 0.5
    rounds: int = 1
    widen: float = 0.0
    length_tolerance: float | None = None
    draft: str = BEST_PATH
    measure: str = DEFAULT
    policy: str = "threshold"
    reverse_weight: float = 0.0
    fill_temperature: float = 1.0

    def __post_init__(self) -> None:
        _check(self)
        find_drafter(self.draft)
        find_measure(self.measure)
        find_policies(self.policy)

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
        check_fitted(self.measure, model)
        prepare_fusion(self, model, device)
        find_drafter(self.draft).check()
        if self.reverse_weight:
            reverse_rows(model)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """The score of a hypothesis is the sum of its segments' scores, 0 when nothing was masked."""
        check_transcription(model, encoded.prompts, self.name)
        if self.reverse_weight:
            reverse_rows(model)  # refused also where nothing is masked
        # 1. CTC writes the draft; what it is not sure of is masked. From here on drafts and segments lie on the host.
        drafting = Drafting.of(model, encoded, self.draft)
        options = FillOptions(**{field.name: getattr(self, field.name) for field in fields(FillOptions)})
        check_letters(options, drafting)
        drafting, passed = self._judged(model, encoded, drafting)
        doubts = Doubts.below(self.threshold, drafting.draft, drafting.silence)
        for policy in find_policies(self.policy):
            doubts = policy.apply(doubts)
        added = fusions(self, model, encoded)
        masks = drafting.masked(model, self._opened(doubts.masks, drafting, added), self.mask_unit)
        segments = find_segments(drafting.draft, masks.tokens, masks.gaps)
        if len(segments) == 0:
            return unmasked(drafting.greedy, passed.counts)
        # 2. The segments are filled: each search needs one teacher-forced pass over the texts before it.
        search = SegmentSearch.of(options, model, drafting, added)
        order = RoundOptions(
            self.context, self.rounds, self.threshold, self.widen, self.mask_unit, self.max_mask_parallel
        )
        done = Rounds(search, encoded, segments, order, passed).run()
        # 3. They are put back.
        work = list(zip(done.passes, done.steps, strict=True))
        return assemble(drafting.greedy, drafting.in_encoder_frames(done.segments), done.fills, work)

    def _judged(self, model: HybridModel, encoded: Encoded, drafting: Drafting) -> tuple[Drafting, Passed]:
        """The drafts as the decoder corrects them, with confidences, and the passes that this took."""
        if not self.corrections:
            drafting, prefill = judge(self.measure, model, encoded, drafting)
            return drafting, Passed.once(len(encoded), prefill)
        found = corrected(model, encoded, drafting, CorrectionOptions(self.corrections, -math.log(self.correct_below)))
        drafting, prefill = judge(self.measure, model, encoded, found.drafting, found.agreement)
        return drafting, Passed([n + (prefill is not None) for n in found.passes], prefill, found.first)

    def _opened(self, masks: Masks, drafting: Drafting, added: tuple[Fusion, ...]) -> Masks:
        """The masks, and the places that phrases open."""
        tokens = masks.tokens
        for fusion in added if self.phrase_margin > 0 and drafting.spelling is None else ():
            if isinstance(fusion, PhraseFusion):
                tokens = tokens | open_places(drafting, fusion.phrases, self.phrase_margin)
        return replace(masks, tokens=tokens)


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
    elif options.context not in CONTEXTS:
        wrong = f"context is {options.context!r}, expected 'draft' or 'fills'{nearest(options.context, CONTEXTS)}"
    elif options.corrections < 0:
        wrong = f"corrections is {options.corrections}, expected passes from 0"
    elif not 0.0 < options.correct_below <= 1.0:
        wrong = f"correct_below is {options.correct_below}, expected a share above 0, 1 at most"
    elif options.rounds < 1:
        wrong = f"rounds is {options.rounds}, expected at least 1"
    elif not 0.0 <= options.widen <= 1.0:
        wrong = f"widen is {options.widen}, expected a share from 0 to 1"
    elif options.length_tolerance is not None and not 0.0 <= options.length_tolerance < 1.0:
        wrong = f"length_tolerance is {options.length_tolerance}, expected a share from 0 to below 1, or none"
    elif not options.phrase_margin >= 0.0:
        wrong = f"phrase_margin is {options.phrase_margin}, expected nats from 0"
    elif not 0.0 <= options.reverse_weight <= 1.0:
        wrong = f"reverse_weight is {options.reverse_weight}, expected a share from 0 to 1"
    elif not 0.0 < options.fill_temperature < math.inf:
        wrong = f"fill_temperature is {options.fill_temperature}, expected a number above 0"
    elif options.nbest < 1 or options.margin < 0:
        wrong = f"nbest is {options.nbest} and margin {options.margin}, expected at least 1 and 0"
    if wrong:
        raise UserError(f"the option {wrong}{'' if wrong.endswith('?') else '; correct it'}")
