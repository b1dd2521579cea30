"""W&B: what the runs of the commands hold; the JSON files stay the source of truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from parlab.errors import UserError
from parlab.metrics.tables import Table
from parlab.metrics.wer import word_errors
from parlab.predictions.files import Json
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.metrics import Metrics
from parlab.text.normalizer import Normalizer
from parlab.tracking.connection import MODES, RunOptions, finish_run, never_fatal, resolve_mode, start_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [  # the options and modes of a run belong to what this file offers
    "MODES",
    "RunOptions",
    "SweptPoint",
    "check_layout",
    "finish_run",
    "flatten",
    "log_prediction",
    "log_report",
    "log_sweep",
    "marked_text",
    "resolve_mode",
    "start_run",
]


def flatten(value: Mapping[str, Json], prefix: str = "") -> dict[str, float | str]:
    """Nested numbers and strings as ``a/b`` keys; lists are left out."""
    flat: dict[str, float | str] = {}
    for key, entry in value.items():
        name = f"{prefix}{key}"
        if isinstance(entry, Mapping):
            flat |= flatten(entry, f"{name}/")
        elif isinstance(entry, (int, float, str)):
            flat[name] = entry
    return flat


def _summary(metrics: Metrics) -> dict[str, float | str]:
    """The figures of a prediction, as keys of a run's summary."""
    entry = metrics.to_json()
    figures = flatten({name: entry[name] for name in ("wer", "cer", "speed", "par", "counts") if name in entry})
    # W&B divides nothing in a chart, and a sweep times fewer utterances than a prediction.
    share = metrics.speed.per_audio_second("search") if metrics.speed else None
    loading = metrics.speed.rtfx_with_loading if metrics.speed else None
    derived = {"speed/search_seconds_per_audio_second": share, "speed/rtfx_with_loading": loading}
    return figures | {name: value for name, value in derived.items() if value is not None}


def marked_text(record: UtteranceRecord) -> str:
    """The hypothesis with its fills marked: ``KEPT [draft -> fill] KEPT``, in tokens."""
    out: list[str] = []
    index = 0  # of the next token of the result
    shift = 0  # tokens of the result less tokens of the draft, so far
    for segment in record.segments:
        begin = segment.start + shift
        out += record.token_text[index:begin]
        out.append(f" [{''.join(segment.draft_text)} -> {''.join(segment.fill_text)}] ")
        index = begin + len(segment.fill)
        shift += len(segment.fill) - len(segment.draft)
    out += record.token_text[index:]
    return "".join(out).replace("\u2581", " ").replace("<space>", " ").strip()


def log_prediction(
    options: RunOptions, metrics: Metrics, records: Sequence[UtteranceRecord], normalize: Normalizer
) -> None:
    """Log a prediction: metrics as summary, and a table of its utterances.

    The files are complete by now, so a server that does not answer costs a warning and not the prediction.
    """
    if resolve_mode(options.mode) == "off":
        return
    with never_fatal(_complete(options)):
        name = f"{metrics.decoder.name}-{options.directory.name}"
        run = start_run(options, job_type="predict", name=name, config=dict(metrics.config))
        if run is not None:
            _log_utterances(run, metrics, records, normalize)
            finish_run(run)


def _complete(options: RunOptions) -> str:
    return f"the files in {options.directory} are complete"


def _log_utterances(run: Any, metrics: Metrics, records: Sequence[UtteranceRecord], normalize: Normalizer) -> None:
    import wandb

    run.summary.update(_summary(metrics))
    # "utterances" is the table; W&B would let it replace a number of the same name.
    run.summary.update({"decoded": metrics.utterances, "failed": len(metrics.failed)})
    table = wandb.Table(columns=["id", "reference", "hypothesis", "errors", "words", "segments", "seconds"])
    for r in records:
        found = (
            word_errors(normalize(r.ref), normalize(r.text), normalize.merge_compounds) if r.ref is not None else None
        )
        errors, words = (found.errors, found.total) if found else (None, None)
        table.add_data(r.id, r.ref or "", marked_text(r), errors, words, len(r.segments), r.seconds)
    run.log({"utterances": table})


@dataclass(frozen=True)
class SweptPoint:
    """A finished point of a sweep: its name, the options of the decoder that it sets, and its metrics."""

    name: str
    options: Mapping[str, Json]
    metrics: Metrics


def check_layout(layout: str) -> None:
    """Refuse an unknown layout of a sweep's runs.

    Raises:
        UserError: naming the layouts.
    """
    if layout not in {"table", "group"}:
        raise UserError(f"the W&B layout is '{layout}', expected 'table' or 'group'; correct it")


def log_sweep(options: RunOptions, points: Sequence[SweptPoint], layout: str) -> None:
    """Log a sweep: one run with a table of its points, or (``layout`` "group") a run per point in one group.

    Raises:
        UserError: an unknown layout or mode.
    """
    check_layout(layout)
    if resolve_mode(options.mode) == "off":
        return
    with never_fatal(_complete(options)):
        if layout == "group":
            _log_points(options, points)
        else:
            _log_table_of_points(options, points)


def _log_points(options: RunOptions, points: Sequence[SweptPoint]) -> None:
    for point in points:
        settings = {"group": options.directory.name, "name": point.name, "config": dict(point.options)}
        run = start_run(options, job_type="sweep", **settings)
        if run is not None:
            if run.offline:  # a server that did not answer for one point is not waited for again
                options = replace(options, mode="offline")
            run.summary.update(_summary(point.metrics))
            finish_run(run)


def _log_table_of_points(options: RunOptions, points: Sequence[SweptPoint]) -> None:
    import wandb

    run = start_run(options, name=options.directory.name, job_type="sweep")
    if run is None:
        return
    figures = [_summary(point.metrics) for point in points]
    names = sorted({name for point in points for name in point.options})
    numbers = sorted({name for flat in figures for name, value in flat.items() if isinstance(value, (int, float))})
    table = wandb.Table(columns=["point", *names, *numbers])
    for point, flat in zip(points, figures, strict=True):
        chosen = [str(point.options.get(name, "")) for name in names]
        table.add_data(point.name, *chosen, *(flat.get(name) for name in numbers))
    run.log({"points": table})
    best = min((point.metrics.wer.rate for point in points if point.metrics.wer), default=None)
    run.summary.update({"points": len(points), "best_wer": best})
    finish_run(run)


def log_report(options: RunOptions, pictures: Mapping[str, tuple[Figure, str]], tables: Mapping[str, Table]) -> None:
    """Log a report's pictures, figures with their captions, and its tables, so that a default workspace shows them."""
    with never_fatal(_complete(options)):
        run = start_run(options, name=f"report-{options.directory.name}", job_type="report")
        if run is not None:
            _log_page(run, pictures, tables)
            finish_run(run)


def _log_page(run: Any, pictures: Mapping[str, tuple[Figure, str]], tables: Mapping[str, Table]) -> None:
    import wandb

    for name, (figure, caption) in pictures.items():
        run.log({f"pictures/{name}": wandb.Image(figure, caption=caption)})
    for name, table in tables.items():
        columns: list[Any] = list(dict.fromkeys(key for row in table for key in row))
        rows = [[row.get(column) for column in columns] for row in table]
        run.log({f"tables/{name}": wandb.Table(columns=columns, data=rows)})
