"""A saved W&B workspace: every key that it shows is logged; W&B's own classes take it; what is missing is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.commands.fit.command import fit
from parlab.errors import UserError
from parlab.tracking.workspace import (
    COLUMNS,
    Chart,
    Curves,
    Panel,
    Pictures,
    Points,
    Rows,
    build,
    check_access,
    parts,
    split_project,
)


@dataclass
class Logged:
    """What the runs below a folder hold: keys of history, of summary and configuration, columns of tables."""

    history: set[str] = field(default_factory=set)
    summary: set[str] = field(default_factory=set)
    tables: dict[str, list[str]] = field(default_factory=dict)

    def lacks(self, panel: Panel) -> set[str]:
        """What the panel names and no run holds."""
        match panel:
            case Curves(_, y, x):
                return {x, *y} - self.history
            case Points(_, x, y):
                return {x, y} - self.summary
            case Chart(_, table, x, y, line):
                return {x, y, *([line] if line else [])} - set(self.tables.get(table, []))
            case Rows(table):
                return {table} - set(self.tables)
            case Pictures(keys):
                return set(keys) - self.history


def leaves(value: Any, prefix: str) -> set[str]:
    """Keys of a nested configuration, as W&B writes them: ``a.b``."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, entry in value.items() for name in leaves(entry, f"{prefix}.{key}")}


def logged(folder: Path, read: Callable[[Path], list[Any]]) -> Logged:
    """Read the offline runs below a folder back."""
    found = Logged()
    paths = list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert paths
    for path in paths:
        for record in read(path):
            for item in (*record.run.config.update, *record.config.update):
                found.summary |= {f"config:{name}" for name in leaves(json.loads(item.value_json), item.key)}
            found.summary |= {item.key or "/".join(item.nested_key) for item in record.summary.update}
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            media = {key.removesuffix("/_type"): kind for key, kind in values.items() if key.endswith("/_type")}
            found.history |= {*values, *media}
            for key in (key for key, kind in media.items() if kind == "table-file"):
                found.tables[key] = json.loads((path.parent / "files" / values[f"{key}/path"]).read_text())["columns"]
    return found


@pytest.fixture
def every(model: Path, data: Path, fit_config: Path, tmp_path: Path, wandb_records: Any) -> dict[str, Logged]:
    """What the runs of each command hold."""
    offline = ["--wandb", "offline"]
    asked = ["--model", str(model), "--data", str(data)]
    assert fit(["--config", str(fit_config), *offline, "--trainer.log_every_n_steps", "1"]) == 0
    assert main(["predict", *asked, "--out", str(tmp_path / "greedy"), "--wandb", "off", "--progress", "false"]) == 0
    par = ["--decoder", "par", "--decoder.threshold", "0.999", "--progress", "false"]
    assert main(["predict", *asked, "--out", str(tmp_path / "predict"), *par, *offline]) == 0
    points = [
        "--decoder.threshold",
        "0.9,0.999",
        "--decoder.max_mask_parallel",
        "1,-1",
        "--timed_utterances",
        "2",
        "--repeats",
        "1",
    ]
    for layout in ("table", "group"):  # the second finds its points done
        assert (
            main(["sweep", *asked, "--out", str(tmp_path / "sweep"), *points, *offline, "--wandb_layout", layout]) == 0
        )
        (tmp_path / "sweep" / "wandb").rename(tmp_path / layout)
        (tmp_path / f"sweep {layout}").mkdir()
        (tmp_path / layout).rename(tmp_path / f"sweep {layout}" / "wandb")
    folders = [str(tmp_path / name) for name in ("greedy", "predict", "sweep")]
    (tmp_path / "report").mkdir()
    assert main(["report", *folders, "--out", str(tmp_path / "report" / "page.html"), *offline]) == 0
    where = {
        "fit": "run",
        "predict": "predict",
        "sweep": "sweep table",
        "sweep group": "sweep group",
        "report": "report",
    }
    return {source: logged(tmp_path / name, wandb_records) for source, name in where.items()}


@pytest.mark.slow
def test_every_key_is_one_that_the_code_logs(every: dict[str, Logged]) -> None:
    for part in parts():
        for panel in part.panels:
            assert not every[part.source].lacks(panel), (part.name, panel)
    assert {name.removeprefix("summary:") for name in COLUMNS} <= every["predict"].summary
    # The other way round: a misspelt key of each kind is found.
    wrong = [
        Curves("", ("train/los",)),
        Points("", "speed/rtf x", "wer/rate"),
        Points("", "config:threshold", "wer/rate"),
    ]
    wrong += [Chart("", "tables/threshold", "threshold", "masked"), Rows("points"), Pictures(("pictures/pareto",))]
    source = ["fit", "predict", "predict", "report", "predict", "report"]
    assert all(every[name].lacks(panel) for name, panel in zip(source, wrong, strict=True))


def test_the_panels_of_the_issue_are_there() -> None:
    panels = [panel for part in parts() for panel in part.panels]
    curves = {key for panel in panels if isinstance(panel, Curves) for key in panel.y}
    lines = {"train/loss", "train/ctc", "train/attention", "dev/wer", "train/lr", "train/audio_seconds_per_second"}
    assert lines <= curves
    assert {(p.x, p.y) for p in panels if isinstance(p, Points)} >= {
        ("speed/rtfx", "wer/rate"),
        ("config:decoder.options.threshold", "wer/rate"),
        ("config:decoder.options.max_mask_parallel", "speed/search_seconds"),
        ("config:threshold", "wer/rate"),
        ("speed/rtfx", "speed/latency_p90"),
    }
    assert {(p.x, p.y) for p in panels if isinstance(p, Chart)} >= {("rtfx", "wer"), ("threshold", "masked_share")}
    assert {p.table for p in panels if isinstance(p, Rows)} == {"utterances", "points", "tables/summary"}


def test_wandbs_classes_take_it() -> None:
    """What would be sent: each panel by W&B's own name for it, with our keys in W&B's spelling; read back unchanged."""
    workspaces = pytest.importorskip("wandb_workspaces.workspaces", reason="wandb-workspaces is not installed")
    made = build("someone", "parlab", "Speed and accuracy", parts())
    sections = json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))["section"][
        "panelBankConfig"
    ]["sections"]
    assert [(s["name"], len(s["panels"])) for s in sections] == [(part.name, len(part.panels)) for part in parts()]
    sent = {s["name"]: s["panels"] for s in sections}
    assert sent["Training"][0]["viewType"] == "Run History Line Plot"
    assert (sent["Training"][0]["config"]["xAxis"], sent["Training"][0]["config"]["metrics"]) == (
        "trainer/global_step",
        ["train/loss"],
    )
    scatter = sent["Predictions"][1]
    assert scatter["viewType"] == "Scatter Plot"
    assert scatter["config"]["xAxis"] == "config:decoder.value.options.threshold"
    assert scatter["config"]["yAxis"] == "summary:wer/rate"
    chart = sent["Report: charts"][2]
    assert (chart["viewType"], chart["config"]["panelDefId"]) == ("Vega2", "wandb/line/v0")
    assert chart["config"]["fieldSettings"] == {"x": "threshold", "y": "masked_share", "stroke": "setting"}
    assert '"tables/threshold"' in json.dumps(chart["config"]["userQuery"])
    assert '"points"' in json.dumps(sent["Sweep, one table"][0])
    again = workspaces.Workspace._from_model(made._to_model())
    assert [len(section.panels) for section in again.sections] == [len(part.panels) for part in parts()]


def test_a_name_that_wandb_refuses() -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    with pytest.raises(UserError, match="without emoji"):
        build("someone", "parlab", "fast \U0001f600", parts())


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert main(["report", "--workspace", "parlab"]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err


def test_offline_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(UserError, match="WANDB_MODE is 'offline'"):
        check_access()


def test_no_key_is_told_without_asking_for_one(tmp_path: Path) -> None:
    """A process of its own: W&B keeps the key that it once found."""
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_") and k != "NETRC"}
    done = subprocess.run(
        [sys.executable, "-m", "parlab", "report", "--workspace", "someone/parlab"],
        env={**kept, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "no W&B key is set" in done.stderr and "wandb login" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_project_is_read() -> None:
    assert split_project("parlab") == (None, "parlab")
    assert split_project("team/parlab") == ("team", "parlab")
    for wrong in ("", "/", "team/", "/parlab", "a/b/c"):
        with pytest.raises(UserError, match="expected PROJECT or ENTITY/PROJECT"):
            split_project(wrong)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A server in place of W&B's: the requests that ``save_workspace`` sends to it."""
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    import wandb

    sent: list[dict[str, Any]] = []

    class Service:
        app_url = "https://example.org"

        def execute_graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
            if variables["projectName"] == "closed":
                raise wandb.errors.CommError("permission denied")
            sent.append(variables)
            return {"upsertView": {"view": {"id": "1", "name": variables["name"]}}}

    class Api:
        default_entity = "me"

        def __init__(self) -> None:
            self._service_api = Service()

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(wandb, "login", lambda prompt: True)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return sent


def test_what_is_saved_and_where(server: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--workspace", "parlab", "--title", "Speed and accuracy"]) == 0
    (request,) = server
    assert (request["entityName"], request["projectName"], request["displayName"]) == (
        "me",
        "parlab",
        "Speed and accuracy",
    )
    assert len(json.loads(request["spec"])["section"]["panelBankConfig"]["sections"]) == len(parts())
    address = capsys.readouterr().out.strip().split()[-1]
    assert address.startswith("https://example.org/me/parlab?nw=")
    assert main(["report", "--workspace", "team/closed"]) == 2
    assert "did not save the workspace in team/closed (permission denied)" in capsys.readouterr().err
