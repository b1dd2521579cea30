"""Build the W&B workspace of ``panels`` with ``wandb-workspaces``, and save it; only saving needs a key."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from parlab.errors import UserError
from parlab.tracking.panels import COLUMNS, SECTIONS, Chart, Curves, Panel, Pictures, Points, Rows, Section

_MANY_RUNS = 100  # shown in a panel; W&B's own 10 would leave out most points of a sweep


def build(entity: str, project: str, name: str, sections: Sequence[Section] = SECTIONS) -> Any:
    """Make a ``wandb_workspaces.workspaces.Workspace`` of ``sections``; needs neither network nor key.

    Raises:
        UserError: ``wandb-workspaces`` is not installed, or the name is one that W&B does not take.
    """
    ws, wr = _packages()
    built = [
        ws.Section(name=section.name, panels=[_panel(panel, wr) for panel in section.panels], is_open=section.open)
        for section in sections
    ]
    try:
        return ws.Workspace(
            entity=entity,
            project=project,
            name=name,
            sections=built,
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
        workspace = build(str(owner), project, name)
        workspace.save()
        return str(workspace.url)
    except (wandb.errors.Error, OSError, ValueError) as error:
        path = "/".join(part for part in (entity, project) if part)
        raise UserError(
            f"W&B did not save the workspace in {path} ({_short(error)}); check the name, the key (`wandb login`) and the network"
        ) from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
