"""What each prediction is: its decoder, the options that set it apart, model, data and versions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence

from parlab.commands.report.tables import varied_options
from parlab.decode import DECODERS
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

_LONGEST = 300  # characters of a value


def about(predictions: Sequence[Prediction]) -> list[dict[str, str]]:
    """A header per prediction: texts by name, always the same names."""
    rows = []
    for p in predictions:
        varied = varied_options([q for q in predictions if q.decoder == p.decoder], frozenset())
        usual = _defaults(p.decoder)
        shown = {k: v for k, v in p.options.items() if k in varied or k not in usual or v != usual[k]}
        speed = {name: getattr(p.speed, name) for name in ("device", "precision", "batch_size")}
        rows.append(
            {
                "prediction": p.name,
                "decoder": p.decoder,
                "options": _pairs(shown) or "defaults",
                "model": _text(p.metrics.model),
                "data": f"{_text(p.metrics.data)} ({len(p.records)} utterances)",
                "normalizer": f"{p.metrics.normalizer.name} {p.metrics.normalizer.version}",
                "speed measured on": _pairs({k: v for k, v in speed.items() if v is not None}) or "not measured",
                "versions": _pairs({k: v for k, v in _mapping(p.metrics.versions).items() if v}),
            }
        )
    return rows


def _defaults(decoder: str) -> dict[str, Json]:
    """The default of each option, in JSON's types; empty for a decoder that is not known here."""
    kind = DECODERS.get(decoder)
    if kind is None:
        return {}
    try:
        return dict(json.loads(json.dumps(dataclasses.asdict(kind()))))  # type: ignore[call-overload]
    except TypeError:  # an option without a default
        return {}


def _mapping(value: object) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _pairs(values: Mapping[str, Json]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items())


def _text(value: Json) -> str:
    text = "not known" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
