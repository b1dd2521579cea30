"""Greedy CTC: the best path, collapsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from parlab.decode.base import Decoder
from parlab.decode.draft import Draft, greedy_draft
from parlab.decode.prompts import Prompt, check_transcription
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Greedy(Decoder):
    """CTC best path with a confidence and a span of frames for every token."""

    name: ClassVar[str] = "greedy"

    def decode(
        self,
        model: HybridModel,
        encoder_out: Tensor,
        lengths: Tensor,
        prompt: Prompt = None,
        ctc_log_probs: Tensor | None = None,
    ) -> list[Hypothesis]:
        """Decode ``encoder_out`` (B, T, D) of ``lengths`` (B,); the score is that of the best path."""
        check_transcription(model, prompt, self.name)
        log_probs = model.ctc_log_probs(encoder_out) if ctc_log_probs is None else ctc_log_probs
        return draft_hypotheses(greedy_draft(log_probs, lengths, model.special.blank))


def draft_hypotheses(draft: Draft) -> list[Hypothesis]:
    """Drafts as hypotheses."""
    rows = zip(
        draft.tokens.tolist(),
        draft.confidence.tolist(),
        draft.first.tolist(),
        draft.last.tolist(),
        draft.lengths.tolist(),
        draft.score.tolist(),
        strict=True,
    )
    return [
        Hypothesis(
            tokens=tuple(tokens[:n]),
            score=score,
            token_confidence=tuple(confidence[:n]),
            token_frames=tuple(zip(first[:n], last[:n], strict=True)),
            counts={"tokens": n},
        )
        for tokens, confidence, first, last, n, score in rows
    ]
