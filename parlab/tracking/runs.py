"""W&B: runs for ``fit`` and ``predict``; the JSON files stay the source of truth."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parlab.errors import UserError, nearest
from parlab.metrics.wer import word_errors
from parlab.predictions.records import read_jsonl
from parlab.text.normalizer import Normalizer

MODES = ("auto", "online", "offline", "off")


def resolve_mode(mode: str) -> str:
    """``auto`` is what ``WANDB_MODE`` says, else online where a key is set, else offline.

    Raises:
        UserError: an unknown mode.
    """
    if mode not in MODES:
        raise UserError(f"the W&B mode is '{mode}', expected one of {', '.join(MODES)}{nearest(mode, MODES)}")
    wished = os.environ.get("WANDB_MODE", "")
    if wished == "disabled":  # it would not override an explicit "offline"
        return "off"
    if mode != "auto":
        return mode
    if wished in {"online", "offline"}:  # the mode that wandb.init is given would override it
        return wished
    import netrc

    try:
        known = any("wandb" in host or "coreweave" in host for host in netrc.netrc().hosts)  # what `wandb login` writes
    except (OSError, netrc.NetrcParseError):
        known = False
    return "online" if known or os.environ.get("WANDB_API_KEY") else "offline"


def start_run(mode: str, project: str, directory: Path, **settings: Any) -> Any | None:
    """A W&B run writing below ``directory``, or None when switched off."""
    mode = resolve_mode(mode)
    if mode == "off":
        return None
    import wandb

    return wandb.init(
        project=project,
        mode="online" if mode == "online" else "offline",
        dir=str(directory),
        settings=wandb.Settings(silent=True, console="off"),
        **settings,
    )


def finish_run(run: Any) -> None:
    """End a run and wait until all of it is on the disk.

    W&B's service writes on its own: after ``finish`` an offline run's file may still be empty for a moment.
    """
    import wandb

    run.finish()
    if wandb.run is None:  # stopping the service would end a run that the caller has open
        wandb.teardown()


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested numbers and strings as ``a/b`` keys; lists are left out."""
    flat: dict[str, Any] = {}
    for key, entry in value.items():
        name = f"{prefix}{key}"
        if isinstance(entry, Mapping):
            flat |= flatten(entry, f"{name}/")
        elif isinstance(entry, (int, float, str, bool)):
            flat[name] = entry
    return flat


def marked_text(record: Mapping[str, Any]) -> str:
    """The hypothesis with its fills marked: ``KEPT [draft -> fill] KEPT``, in tokens."""
    out: list[str] = []
    place = shift = 0
    for segment in record["segments"]:
        begin = segment["start"] + shift
        out += record["token_text"][place:begin]
        out.append(f" [{''.join(segment['draft_text'])} -> {''.join(segment['fill_text'])}] ")
        place = begin + len(segment["fill"])
        shift += len(segment["fill"]) - len(segment["draft"])
    out += record["token_text"][place:]
    return "".join(out).replace("\u2581", " ").replace("<space>", " ").strip()


def log_prediction(
    out: Path, metrics: Mapping[str, Any], mode: str, project: str, normalize: Normalizer, **settings: Any
) -> None:
    """Log a prediction: metrics as summary, and a table of its utterances.

    The files are written by now, so a server that does not answer costs a warning and not the prediction.
    """
    if resolve_mode(mode) == "off":
        return
    import wandb

    decoder = metrics["decoder"]
    name = f"{decoder['name']}-{out.name}"
    try:
        run = start_run(mode, project, out, job_type="predict", name=name, config=metrics["config"], **settings)
    except wandb.errors.Error as error:
        print(f"warning: W&B does not answer ({str(error)[:160]}); the files in {out} are complete", file=sys.stderr)
        return
    assert run is not None
    run.summary.update(flatten({k: metrics[k] for k in ("wer", "cer", "speed", "par", "counts") if k in metrics}))
    # "utterances" is the table; W&B would let it replace a number of the same name.
    run.summary.update({"decoded": metrics["utterances"], "failed": len(metrics["failed"])})
    table = wandb.Table(columns=["id", "reference", "hypothesis", "errors", "words", "segments", "seconds"])
    for record in read_jsonl(out / "hypotheses.jsonl"):
        reference = record.get("ref")
        found = word_errors(normalize(reference), normalize(record["text"])) if reference is not None else None
        table.add_data(
            record["id"],
            reference or "",
            marked_text(record),
            found.errors if found else None,
            found.total if found else None,
            len(record["segments"]),
            record["seconds"],
        )
    run.log({"utterances": table})
    finish_run(run)


def log_sweep(out: Path, points: Sequence[Any], mode: str, project: str, layout: str) -> None:
    """Log a sweep: one run with a table of its points, or (``layout`` "group") a run per point in one group."""
    if layout not in {"table", "group"}:
        raise UserError(f"the W&B layout is '{layout}', expected 'table' or 'group'; correct it")
    if resolve_mode(mode) == "off":
        return
    rows = []
    for point in points:
        metrics = json.loads((out / "points" / point.name / "metrics.json").read_text(encoding="utf-8"))
        flat = flatten({k: metrics[k] for k in ("wer", "cer", "speed", "par", "counts") if k in metrics})
        rows.append((point, flat))
    if layout == "group":
        for point, flat in rows:
            run = start_run(
                mode, project, out, group=out.name, name=point.name, config=dict(point.options), job_type="sweep"
            )
            if run is not None:
                run.summary.update(flat)
                finish_run(run)
        return
    import wandb

    run = start_run(mode, project, out, name=out.name, job_type="sweep")
    if run is None:
        return
    options = sorted({name for point, _ in rows for name in point.options})
    numbers = sorted({name for _, flat in rows for name, value in flat.items() if isinstance(value, (int, float))})
    table = wandb.Table(columns=["point", *options, *numbers])
    for point, flat in rows:
        table.add_data(point.name, *(str(point.options.get(o, "")) for o in options), *(flat.get(n) for n in numbers))
    run.log({"points": table})
    best = min((flat["wer/rate"] for _, flat in rows if "wer/rate" in flat), default=None)
    run.summary.update({"points": len(rows), "best_wer": best})
    finish_run(run)


def log_report(out: Path, folders: Sequence[Path], mode: str, project: str) -> None:
    """Log a report's pictures and tables, so that a default workspace shows them."""
    if resolve_mode(mode) == "off":
        return
    import wandb

    from parlab.commands.report.data import summary
    from parlab.commands.report.figures import figures
    from parlab.predictions.loaded import read_sources

    predictions = read_sources(folders)
    run = start_run(mode, project, out, name=f"report-{out.name}", job_type="report")
    if run is None:
        return
    tables = {"summary": summary(predictions)}
    for name, (figure, table, caption) in figures(predictions).items():
        run.log({f"pictures/{name}": wandb.Image(figure, caption=caption)})
        tables[name] = table
    for name, table in tables.items():
        columns: list[Any] = list(dict.fromkeys(key for row in table for key in row))
        rows = [[row.get(column) for column in columns] for row in table]
        run.log({f"tables/{name}": wandb.Table(columns=columns, data=rows)})
    finish_run(run)
