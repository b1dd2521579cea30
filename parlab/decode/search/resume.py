"""The decoder's own search after tokens that an utterance has already."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.prefill import Prefill
from parlab.decode.scorers.whisper import own_rules, ruled
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.types import Hypothesis


def resume(
    model: HybridModel, encoded: Encoded, written: Sequence[Sequence[int]], limits: Sequence[int], beam_size: int
) -> list[Hypothesis]:
    """The best texts after what is written, by the decoder alone; the score is that of the new tokens.

    Args:
        written: tokens of each of B utterances, after its prompt.
        limits: most tokens of each, the written ones included.
    """
    prefill = Prefill.of(model.rows, encoded, written)
    lengths = torch.tensor([len(tokens) for tokens in written])
    left = torch.tensor(list(limits)) - lengths
    groups = Groups(torch.full_like(left, model.special.eos), left).on_device(encoded.device)
    attention = prefill.scorer(torch.arange(len(written)), prefill.prompt_lengths + lengths, 1.0)
    # No utterance writes times.
    scorer = ruled(attention, model, timed=[False] * len(written), begins=[not tokens for tokens in written])
    banned = () if own_rules(model) is not None else model.special.never
    options = BeamOptions(beam_size=beam_size, nbest=1, banned=banned, force_all=True)
    return beam_search([scorer], groups, options).hypotheses()


def continued(written: Hypothesis, rest: Hypothesis) -> Hypothesis:
    """What was written and what ``resume`` found after it; a search whose scores are no numbers counts nothing."""
    tokens = written.tokens + rest.tokens
    counts = {**written.counts, "tokens": len(tokens)}
    counts["decoder_passes"] += rest.counts.get("decoder_passes", 0.0)
    counts["decoder_steps"] = rest.counts.get("decoder_steps", 0.0)
    confidence = written.token_confidence + rest.token_confidence
    return Hypothesis(tokens, written.score + rest.score, confidence, counts=counts)
