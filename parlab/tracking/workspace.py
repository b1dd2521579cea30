"""A saved W&B workspace: its sections and panels as plain data, and how ``wandb-workspaces`` builds and saves them.

Everything that it shows is logged by ``tracking`` and ``module`` anyway, offline too; only saving needs a key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parlab.errors import UserError

_STEP = "trainer/global_step"
_MANY_RUNS = 100  # shown in a panel; W&B's own 10 would leave out most points of a sweep


@dataclass(frozen=True)
class Curves:
    """Lines over the steps of a training, one for each run and key."""

    title: str
    y: tuple[str, ...]
    x: str = _STEP


@dataclass(frozen=True)
class Points:
    """A point for each run: ``y`` of its summary against ``x`` of its summary, or of its configuration (``config:...``)."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class Chart:
    """Columns ``x`` and ``y`` of a logged table; ``line`` is the column that tells its lines apart (else points)."""

    title: str
    table: str
    x: str
    y: str
    line: str = ""


@dataclass(frozen=True)
class Rows:
    """A logged table as it is."""

    table: str


@dataclass(frozen=True)
class Pictures:
    """Logged pictures."""

    keys: tuple[str, ...]


Panel = Curves | Points | Chart | Rows | Pictures


@dataclass(frozen=True)
class Part:
    """A section: its panels show the runs of one command, ``source``."""

    name: str
    source: str
    panels: tuple[Panel, ...]
    open: bool = True


COLUMNS = ("summary:wer/rate", "summary:cer/rate", "summary:speed/rtfx", "summary:par/masked_tokens")
"""Columns pinned in the list of runs."""


def parts() -> list[Part]:
    """The sections of the workspace; every key is one that the command named by ``source`` logs."""
    return [
        Part(
            "Training",
            "fit",
            (
                Curves("Loss, training", ("train/loss",)),
                Curves("CTC loss, training", ("train/ctc",)),
                Curves("Attention loss, training", ("train/attention",)),
                Curves("Loss, development", ("dev/loss",)),
                Curves("WER (greedy), development", ("dev/wer",)),
                Curves("CER (greedy), development", ("dev/cer",)),
                Curves("Decoder accuracy", ("train/accuracy", "dev/accuracy")),
                Curves("Learning rate", ("train/lr",)),
                Curves("Throughput (seconds of audio per second)", ("train/audio_seconds_per_second",)),
            ),
        ),
        Part("Predictions", "predict", (*_runs("config:decoder.options."), Rows("utterances"))),
        Part("Sweep, a run per point (--wandb_layout group)", "sweep group", _runs("config:")),
        Part("Sweep, one table", "sweep", (Rows("points"),), open=False),
        Part(
            "Report: charts",
            "report",
            (
                Chart("WER against RTFx", "tables/wer_rtfx", "rtfx", "wer"),
                Chart("WER against threshold", "tables/threshold", "threshold", "wer", "setting"),
                Chart("Masked share against threshold", "tables/threshold", "threshold", "masked_share", "setting"),
                Chart(
                    "Search seconds per second of audio against max_mask_parallel (-1: all)",
                    "tables/parallelism",
                    "max_mask_parallel",
                    "search_seconds_per_audio_second",
                    "setting",
                ),
                Chart("Latency (s) against duration (s)", "tables/latency", "duration", "seconds"),
                Chart("Accuracy against confidence", "tables/reliability", "confidence", "accuracy", "name"),
            ),
        ),
        Part(
            "Report: tables and pictures",
            "report",
            (
                Rows("tables/summary"),
                Pictures(tuple(f"pictures/{name}" for name in ("wer_rtfx", "threshold", "parallelism"))),
                Pictures(tuple(f"pictures/{name}" for name in ("phases", "latency", "reliability", "caught"))),
            ),
            open=False,
        ),
    ]


def _runs(options: str) -> tuple[Panel, ...]:
    """A point per prediction; ``options`` is where its configuration holds the decoder's options."""
    # W&B cannot divide two summary values in a scatter plot; the share itself is in the report's tables.
    return (
        Points("WER against RTFx", "speed/rtfx", "wer/rate"),
        Points("WER against threshold", f"{options}threshold", "wer/rate"),
        Points("Masked tokens against threshold", f"{options}threshold", "par/masked_tokens"),
        Points(
            "Search seconds against max_mask_parallel (-1: all)", f"{options}max_mask_parallel", "speed/search_seconds"
        ),
        Points("Latency, median (s) against RTFx", "speed/rtfx", "speed/latency_p50"),
        Points("Latency, 90th percentile (s) against RTFx", "speed/rtfx", "speed/latency_p90"),
    )


def build(entity: str, project: str, name: str, sections: Sequence[Part]) -> Any:
    """A ``wandb_workspaces.workspaces.Workspace`` of ``sections``; needs neither network nor key.

    Raises:
        UserError: ``wandb-workspaces`` is not installed, or the name is one that W&B does not take.
    """
    ws, wr = _packages()
    made = [
        ws.Section(name=part.name, panels=[_panel(panel, wr) for panel in part.panels], is_open=part.open)
        for part in sections
    ]
    try:
        return ws.Workspace(
            entity=entity,
            project=project,
            name=name,
            sections=made,
            settings=ws.WorkspaceSettings(max_runs=_MANY_RUNS),
            runset_settings=ws.RunsetSettings(pinned_columns=list(COLUMNS)),
        )
    except ValueError as error:  # the only text here that is not ours is the name
        raise UserError(f"the workspace's name is '{name}', expected one without emoji; give it another") from error


def _packages() -> tuple[Any, Any]:
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            "a saved workspace needs the package wandb-workspaces, which is not installed; run `pip install wandb-workspaces`"
        ) from error
    return ws, wr


def _panel(panel: Panel, wr: Any) -> Any:
    match panel:
        case Curves(title, y, x):
            return wr.LinePlot(title=title, x=x, y=list(y))
        case Points(title, x, y):
            return wr.ScatterPlot(title=title, x=_axis(x, wr), y=_axis(y, wr))
        case Chart(title, table, x, y, line):
            return wr.CustomChart(
                query={"summaryTable": {"tableKey": table}},
                chart_name="wandb/line/v0" if line else "wandb/scatter/v0",  # W&B's own presets
                chart_fields={"x": x, "y": y} | ({"stroke": line} if line else {}),
                chart_strings={"title": title},
            )
        case Rows(table):
            return wr.WeavePanelSummaryTable(table_name=table)
        case Pictures(keys):
            return wr.MediaBrowser(media_keys=list(keys), num_columns=len(keys))


def _axis(key: str, wr: Any) -> Any:
    return wr.Config(key.removeprefix("config:")) if key.startswith("config:") else wr.SummaryMetric(key)


def check_access() -> None:
    """Find out whether a workspace can be saved, before any work is done.

    Raises:
        UserError: a package or a key is missing, or W&B is switched off or offline.
    """
    _packages()
    import wandb

    mode = os.environ.get("WANDB_MODE", "online")
    if mode not in {"", "online"}:
        raise UserError(f"WANDB_MODE is '{mode}', expected online, because a workspace lies on the server; unset it")
    try:
        known = wandb.login(prompt=False)
    except wandb.errors.Error as error:  # a key of a wrong form, or no network
        raise UserError(
            f"W&B does not accept the key ({_short(error)}), expected a valid one and a network; run `wandb login`"
        ) from error
    if not known:
        raise UserError("no W&B key is set, expected one, because a workspace lies on the server; run `wandb login`")


def split_project(text: str) -> tuple[str | None, str]:
    """``ENTITY/PROJECT`` or ``PROJECT`` in its parts.

    Raises:
        UserError: it is neither.
    """
    entity, slash, project = text.rpartition("/")
    if not project or "/" in entity or bool(slash) != bool(entity):
        raise UserError(f"the workspace's project is '{text}', expected PROJECT or ENTITY/PROJECT; correct it")
    return entity or None, project


def save_workspace(entity: str | None, project: str, name: str) -> str:
    """Save a new workspace in a W&B project, and return its address.

    Args:
        entity: user or team; None is the key's own.

    Raises:
        UserError: a package or a key is missing, or the server refuses.
    """
    check_access()
    import wandb

    try:
        owner = entity or wandb.Api().default_entity
        workspace = build(str(owner), project, name, parts())
        workspace.save()
        return str(workspace.url)
    except (wandb.errors.Error, OSError, ValueError) as error:
        place = "/".join(part for part in (entity, project) if part)
        raise UserError(
            f"W&B did not save the workspace in {place} ({_short(error)}); check the name, the key (`wandb login`) and the network"
        ) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
