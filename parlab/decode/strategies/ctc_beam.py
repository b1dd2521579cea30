"""CTC prefix beam search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from parlab.decode.base import Decoder, check_transcription
from parlab.decode.ctc_fusion import ctc_automata, prepare_ctc_fusion
from parlab.decode.prefixes import PrefixBeam, check_beam, ctc_nbest
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class CTCBeam(Decoder):
    """Sum over alignments instead of the single best path.

    Attributes:
        beam_size: prefixes kept per utterance.
        nbest: hypotheses returned.
        token_beam: tokens that may extend a prefix at a frame, the most probable ones.
        blank_skip: frames whose blank posterior is at least this only add a blank; 1.0 skips none.
        lm: ARPA or KenLM file over CTC's tokens (a draft head's, where there is one), whose n-grams count inside the search;
            ``lm_weight`` of their log-probability.
        phrases: file of phrases that are boosted, one a line with or without a tab and a weight (``docs/guides/phrases.md``).
        phrase_weight: nats per token of a phrase of weight 1.
    """

    name: ClassVar[str] = "ctc_beam"

    beam_size: int = 10
    nbest: int = 1
    token_beam: int = 20
    blank_skip: float = 1.0
    lm: str | None = None
    lm_weight: float = 0.3
    phrases: str | None = None
    phrase_weight: float = 1.0

    def __post_init__(self) -> None:
        check_beam(self.beam_size, self.nbest, self.token_beam)

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        prepare_ctc_fusion(self)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        check_transcription(model, encoded.prompts, self.name)
        automata = ctc_automata(self, model, encoded)
        options = PrefixBeam(max(self.beam_size, self.nbest), self.token_beam, self.blank_skip, automata)
        return ctc_nbest(model, encoded, options, self.nbest)
