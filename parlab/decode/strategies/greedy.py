"""Greedy CTC: the best path, collapsed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from parlab.decode.base import Decoder, check_transcription
from parlab.decode.confidence.fitted import check_fitted
from parlab.decode.confidence.judging import judge
from parlab.decode.confidence.measure import DEFAULT, find_measure
from parlab.decode.draft import Posteriors, draft_hypotheses, greedy_draft, respelled
from parlab.decode.filling.drafting import Drafting
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Greedy(Decoder):
    """CTC best path, the model's own or that of its draft head, with a confidence and a span of frames for every token; the score is that of the path.

    Attributes:
        measure: confidence measure of the tokens, by name, with its options, as for ``par``; those that read the decoder cost
            one pass over the draft.
    """

    name: ClassVar[str] = "greedy"

    measure: str = DEFAULT

    def __post_init__(self) -> None:
        find_measure(self.measure)

    def prepare(self, model: HybridModel, device: torch.device) -> None:
        check_fitted(self.measure, model)

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        check_transcription(model, encoded.prompts, self.name)
        if self.measure != DEFAULT:
            drafting, prefill = judge(self.measure, model, encoded, Drafting.of(model, encoded))
            passes = {} if prefill is None else {"decoder_passes": 1}
            return [replace(h, counts={**h.counts, **passes}) for h in drafting.greedy]
        given = Posteriors.of(model, encoded)
        draft = greedy_draft(given.log_probs, given.frames, given.blank)
        return draft_hypotheses(draft) if encoded.drafted is None else respelled(draft, encoded.drafted)
