"""What each prediction is: its decoder, the options that set it apart, model, data and versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from parlab.commands.report.tables import varied_options
from parlab.options.sources import find_decoders, read_options
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

_LONGEST = 300  # characters of a value


def about(predictions: Sequence[Prediction]) -> list[dict[str, str]]:
    """A header per prediction: texts by name, always the same names."""
    rows = []
    for p in predictions:
        varied = varied_options([q for q in predictions if q.decoder == p.decoder], frozenset())
        usual = _usual(p.decoder)
        shown = {k: v for k, v in p.options.items() if k in varied or not usual(k, v)}
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


def _usual(decoder: str) -> Callable[[str, Json], bool]:
    """Whether a value is an option's default; never, for a decoder that is not known here.

    The defaults are read from the source, as ``--help`` does: importing the decoders takes seconds, for torch.
    """
    source = find_decoders().get(decoder)
    defaults = {o.name: o.default or "" for o in read_options(source, "") if not o.required} if source else {}

    def usual(name: str, value: Json) -> bool:
        text = str(value).lower() if isinstance(value, bool) else "" if value in (None, [], {}) else str(value)
        return defaults.get(name) == text

    return usual


def _mapping(value: object) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _pairs(values: Mapping[str, Json]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items())


def _text(value: Json) -> str:
    text = "not known" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
