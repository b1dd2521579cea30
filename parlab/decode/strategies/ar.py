"""Autoregressive decoding: a label-synchronous beam over many utterances at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from parlab.decode.base import NOTHING_SAID, Decoder, check_transcription
from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.fusion import Contexts, fusions, prepare_fusion
from parlab.decode.lengths import length_limit, longest_texts
from parlab.decode.prefill import Prefill
from parlab.decode.scorers import AnyScorer
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from parlab.decode.scorers.length import LengthBonus
from parlab.decode.scorers.timestamps import TimestampRules
from parlab.decode.scorers.whisper import own_rules, ruled
from parlab.errors import UserError, nearest
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import numbers_on, to_host
from parlab.types import Hypothesis

ENDINGS = ("auto", "espnet", "transformers")


@dataclass(frozen=True)
class AR(Decoder):
    """Attention beam search, joint with CTC prefix scores unless ``ctc_weight`` is 0.

    The options are those of ESPnet's ``BatchBeamSearch``. With ``allow_special`` and ``ctc_margin`` 0 tokens and scores are
    ESPnet's too (``tests/decode/test_ar.py``), with one exception: at the limit of length ESPnet appends a second ``<eos>``
    to hypotheses that have just ended, which changes their order under ``normalize_length``.

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
        lm: folder of an ESPnet language model, or an ARPA or KenLM file over the decoder's tokens, for shallow fusion; ``lm_weight`` of
            its log-probability.
        phrases: file of phrases that are boosted, one a line with or without a tab and a weight (``docs/guides/phrases.md``).
        phrase_weight: nats per token of a phrase of weight 1.
        allow_special: let the decoder emit blank and other special symbols, as ESPnet does.
        ending: how a beam ends and what its hypotheses are ranked by: ``"espnet"``; ``"transformers"``, whose beam stays full
            while hypotheses end, and which ranks by score per token; ``"auto"``: transformers' for a Whisper model.
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
    phrases: str | None = None
    phrase_weight: float = 1.0
    allow_special: bool = False
    ending: str = "auto"

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.nbest < 1:
            raise UserError(
                f"the options beam_size and nbest are {self.beam_size} and {self.nbest}, expected at least 1; correct them"
            )
        if self.pre_beam_ratio < 1:
            raise UserError(f"the option pre_beam_ratio is {self.pre_beam_ratio}, expected at least 1; correct it")
        if self.ending not in ENDINGS:
            raise UserError(
                f"the option ending is '{self.ending}', expected one of {', '.join(ENDINGS)}{nearest(self.ending, ENDINGS)}"
            )
        if self.ctc_margin < 0:
            raise UserError(f"the option ctc_margin is {self.ctc_margin}, expected frames, or 0 for all; correct it")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise UserError(f"the option ctc_weight is {self.ctc_weight}, expected a weight from 0 to 1; correct it")

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        prepare_fusion(self, model, device)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        """One group of rows per utterance, from its prompt to ``<eos>``; the score is that of ESPnet."""
        [frames] = to_host(encoded.frames)
        if not bool(frames.all()):
            return self._with_empty(model, encoded, frames)
        times = timestamp_rules(model, encoded.prompts, encoded.device)
        scorers = self._scorers(model, encoded, frames, times)
        ended = beam_search(scorers, self._groups(model, encoded, frames), self._beam(model, encoded, times))
        found = ended.best(self.nbest).hypotheses(bonus=self.penalty)
        # As ESPnet: utterances of which nothing was long enough are searched again for shorter hypotheses.
        empty = [i for i, h in enumerate(found) if h.score == float("-inf")]
        if empty and self.minlenratio >= 0.1:
            less = replace(self, minlenratio=max(0.0, self.minlenratio - 0.1))
            for i, hypothesis in zip(empty, less.decode(model, encoded.select(empty)), strict=True):
                found[i] = hypothesis
        return [replace(h, score=0.0) if h.score == float("-inf") else h for h in found]

    def _with_empty(self, model: HybridModel, encoded: Encoded, frames: Tensor) -> list[Hypothesis]:
        """The results of a batch some of whose utterances have no frame (``frames`` (B,) on the host)."""
        spoken = frames.nonzero().squeeze(1).tolist()
        found = dict(zip(spoken, self.decode(model, encoded.select(spoken)) if spoken else (), strict=True))
        return [found.get(i, NOTHING_SAID) for i in range(len(frames))]

    def _scorers(
        self, model: HybridModel, encoded: Encoded, frames: Tensor, times: TimestampRules | None
    ) -> list[AnyScorer]:
        """The decoder, and the scorers that the options and the model ask for; ``frames`` (B,) lie on the host."""
        prefill = Prefill.of(model.rows, encoded)
        owner = torch.arange(len(encoded))
        attention = prefill.scorer(owner, prefill.prompt_lengths, 1.0 - self.ctc_weight)
        timed, begins = _timed(model, encoded.prompts), [True] * len(encoded)
        scorers: list[AnyScorer] = [ruled(attention, model, timed, begins, suppress=not self.allow_special)]
        texts = Contexts.whole(len(encoded), model.special.eos)
        scorers += [fusion.scorer(texts) for fusion in fusions(self, model, encoded)]
        if times is not None:
            scorers.append(times)
        if self.ctc_weight > 0:
            if times is not None and any(timed):
                raise UserError(
                    "CTC cannot score timestamps, expected ctc_weight 0 with them; set --decoder.ctc_weight 0"
                )
            check_transcription(model, encoded.prompts, "ctc_weight above 0")
            windows = Windows.whole(encoded.posteriors, frames, model.special.blank)
            scorers.append(CTCPrefixScorer(windows, self.ctc_weight, self.ctc_margin))
        if self.penalty != 0:
            scorers.append(LengthBonus(self.penalty))
        return scorers

    def _groups(self, model: HybridModel, encoded: Encoded, frames: Tensor) -> Groups:
        """One group per utterance, with its limits of length; ``frames`` (B,) lie on the host."""
        groups = Groups(
            stop=torch.full_like(frames, model.special.eos),
            max_length=longest_texts(self.maxlenratio, frames, encoded.prompts, model.rows.spec.max_positions),
            min_length=length_limit(self.minlenratio, frames, at_zero=torch.zeros_like(frames)),
        )
        return groups.on_device(encoded.device)

    def _beam(self, model: HybridModel, encoded: Encoded, times: TimestampRules | None) -> BeamOptions:
        """The rules of ending: ESPnet's, or transformers'."""
        refill = self.ending == "transformers" or (self.ending == "auto" and own_rules(model) is not None)
        detected = self.maxlenratio == 0 and not refill
        return BeamOptions(
            beam_size=self.beam_size,
            nbest=max(self.nbest, self.beam_size) if refill else self.nbest,
            banned=self._banned(model, times),
            normalize_length=self.normalize_length or refill,
            force_all=True,
            end_detection=1 + max(len(p) for p in encoded.prompts) if detected else 0,
            pre_beam_ratio=self.pre_beam_ratio,
            refill=refill,
        )

    def _banned(self, model: HybridModel, times: TimestampRules | None) -> tuple[int, ...]:
        """Symbols that are never written; the rules of timestamps decide on the time symbols themselves."""
        if self.allow_special or own_rules(model) is not None:
            return ()  # a model's own rules are those of its scorer
        if times is None:
            return model.special.never
        return tuple(i for i in model.special.never if not times.first_time <= i <= times.last_time)


def timestamp_rules(
    model: HybridModel, prompts: Sequence[tuple[int, ...]], device: torch.device
) -> TimestampRules | None:
    """ESPnet's rules of time symbols, where an utterance may write them or the model has them."""
    s2t = model.s2t
    if s2t is None or s2t.rules is not None or s2t.first_time is None or s2t.last_time is None:
        return None
    [timed] = numbers_on(device, _timed(model, prompts))
    return TimestampRules(timed.bool(), s2t.first_time, s2t.last_time, model.special.eos, model.vocab_size)


def _timed(model: HybridModel, prompts: Sequence[tuple[int, ...]]) -> list[bool]:
    """Which of B prompts of an S2T model ask for times."""
    return [model.s2t is not None and model.s2t.notimestamps not in prompt for prompt in prompts]
