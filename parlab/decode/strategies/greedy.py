"""Greedy CTC: the best path, collapsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parlab.decode.base import Decoder, check_transcription
from parlab.decode.draft import draft_hypotheses, greedy_draft, respelled
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Greedy(Decoder):
    """CTC best path, the model's own or that of its draft head, with a confidence and a span of frames for every token; the score is that of the path."""

    name: ClassVar[str] = "greedy"

    def decode(self, model: HybridModel, encoded: Encoded) -> list[Hypothesis]:
        check_transcription(model, encoded.prompts, self.name)
        if (drafted := encoded.drafted) is not None:
            return respelled(greedy_draft(drafted.log_probs, drafted.frames, blank=0), drafted)
        return draft_hypotheses(greedy_draft(encoded.posteriors, encoded.frames, model.special.blank))
