"""A saved W&B workspace: W&B's own classes take it; missing packages, keys and permissions are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.errors import UserError
from parlab.tracking.panels import SECTIONS
from parlab.tracking.workspace import build, check_access, split_project


def test_wandbs_classes_take_it() -> None:
    """What would be sent: each panel by W&B's own name for it, with our keys in W&B's spelling; read back unchanged."""
    workspaces = pytest.importorskip("wandb_workspaces.workspaces", reason="wandb-workspaces is not installed")
    workspace = build("someone", "parlab", "Speed and accuracy", SECTIONS)
    sections = json.loads(workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))["section"][
        "panelBankConfig"
    ]["sections"]
    assert [(s["name"], len(s["panels"])) for s in sections] == [
        (section.name, len(section.panels)) for section in SECTIONS
    ]
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
    again = workspaces.Workspace._from_model(workspace._to_model())
    assert [len(section.panels) for section in again.sections] == [len(section.panels) for section in SECTIONS]


def test_a_name_that_wandb_refuses() -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    with pytest.raises(UserError, match="without emoji"):
        build("someone", "parlab", "fast \U0001f600", SECTIONS)


def test_the_package_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert main(["report", "--workspace", "parlab"]) == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err


def test_offline_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(UserError, match="WANDB_MODE is 'offline'"):
        check_access()


def test_no_key_is_refused_without_asking_for_one(tmp_path: Path) -> None:
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
    assert len(json.loads(request["spec"])["section"]["panelBankConfig"]["sections"]) == len(SECTIONS)
    address = capsys.readouterr().out.strip().split()[-1]
    assert address.startswith("https://example.org/me/parlab?nw=")
    assert main(["report", "--workspace", "team/closed"]) == 2
    assert "did not save the workspace in team/closed (permission denied)" in capsys.readouterr().err
