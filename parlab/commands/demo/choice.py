"""PAR's options for the demo: those that are best on voices that are neither trained on nor reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

# A model that has just met new voices is surer of its wrong tokens than the default threshold allows for.
GRID: Mapping[str, Sequence[str]] = {"threshold": ("0.9", "0.95", "0.99"), "mask_unit": ("token", "word")}


def chosen(points: Sequence[Prediction]) -> dict[str, Json]:
    """The options of the point with the lowest WER; among equals with the lowest CER, then with the fewest masks."""

    def cost(p: Prediction) -> tuple[float, float, float]:
        word, character = (errors.rate if errors else 1.0 for errors in (p.metrics.wer, p.metrics.cer))
        return word, character, p.masked_share

    best = min(points, key=cost)
    return {name: best.options[name] for name in GRID}
