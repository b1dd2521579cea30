"""Error rate against speed as the page's script draws it: a point per prediction, with what its setting is."""

from __future__ import annotations

from collections.abc import Sequence

from parlab.commands.report.drawing import FEW
from parlab.commands.report.tables import varied_options
from parlab.metrics.palette import COLORS
from parlab.metrics.tables import Table
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

_LONGEST = 60  # characters of a value


def pareto(predictions: Sequence[Prediction], rows: Table) -> dict[str, Json]:
    """The points of ``rows``, which are ``SpeedPoint``'s fields by name, and what they can be told apart by.

    Keys: ``colors``; ``by``, the names of groupings with few values, ``decoder`` first; ``points``, an entry per row:
    ``name``, ``wer``, ``low``, ``high``, ``rtfx``, ``front``, and ``set``, the options that vary, with the decoder.
    """
    named = {p.name: p for p in predictions}
    shown = [named[str(row["name"])] for row in rows]
    varied = varied_options(shown, frozenset())
    settings = [
        {"decoder": p.decoder} | {k: _text(p.options[k]) for k in varied if p.options.get(k) is not None} for p in shown
    ]
    groupings = ["decoder", *(k for k in varied if 1 < len({s.get(k) for s in settings}) <= FEW)]
    names = {"wer": "wer", "wer_low": "low", "wer_high": "high", "rtfx": "rtfx", "front": "front", "name": "name"}
    points = [
        {names[k]: v for k, v in row.items() if k in names} | {"set": s} for row, s in zip(rows, settings, strict=True)
    ]
    return {"colors": list(COLORS), "by": groupings, "points": points}


def _text(value: Json) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
