"""Drafts with the confidences of a measure."""

from __future__ import annotations

from dataclasses import replace

from parlab.decode.confidence.evidence import Agreement, Evidence
from parlab.decode.confidence.measure import DEFAULT, find_measure
from parlab.decode.filling.drafting import Drafting
from parlab.decode.prefill import Prefill, pass_over
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel


def judge(
    measure: str, model: HybridModel, encoded: Encoded, drafting: Drafting, agreement: Agreement | None = None
) -> tuple[Drafting, Prefill | None]:
    """The drafts with the confidences of a measure, and the decoder's pass over them where the measure needs it.

    Args:
        measure: its name and options.
        agreement: what the decoder says of them, where that is known already; with or without ranks.
    """
    if measure == DEFAULT:
        return drafting, None
    chosen = find_measure(measure)
    prefill = None
    known = agreement is not None and (agreement.rank is not None or not chosen.reads_rank)
    if chosen.reads_decoder and not known:
        prefill = pass_over(model, encoded, [h.tokens for h in drafting.greedy])
        agreement = Agreement.of(prefill, drafting)
    values = chosen.confidence(Evidence(drafting, agreement)).clamp(0.0, 1.0)
    rows = zip(drafting.greedy, values.tolist(), strict=True)
    greedy = [replace(h, token_confidence=tuple(row[: len(h.tokens)])) for h, row in rows]
    return replace(drafting, draft=replace(drafting.draft, confidence=values), greedy=greedy), prefill
