"""W&B without a network, with a wrong mode, and without reports to its maker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from parlab.cli import main
from parlab.errors import UserError
from parlab.tracking.connection import RunOptions, finish_run, never_fatal, resolve_mode, start_run
from tests.helpers import environment


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and a server that nobody runs."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")


def offline_runs(folder: Path) -> list[Path]:
    return list(folder.glob("wandb/offline-run-*/*.wandb"))


def test_without_a_network_a_run_is_offline(
    no_server: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start_run(RunOptions("auto", "parlab", tmp_path), name="x")
    assert run is not None and run.offline
    finish_run(run)
    assert len(offline_runs(tmp_path)) == 1
    assert "warning: W&B does not answer" in capsys.readouterr().err


def test_settings_that_wandb_refuses_cost_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "soon")
    assert start_run(RunOptions("offline", "parlab", tmp_path)) is None
    assert "the run is not logged there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("preset", "mode"), [("dryrun", "offline"), ("run", "online"), ("shared", "online"), ("disabled", "off")]
)
def test_presets(preset: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", preset)
    assert resolve_mode("auto") == mode


@pytest.mark.parametrize("mode", ["auto", "online", "offline"])
def test_a_wrong_mode_in_the_environment(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "oflline")
    with pytest.raises(UserError, match=r"WANDB_MODE is 'oflline'.*did you mean 'offline'"):
        resolve_mode(mode)
    assert resolve_mode("off") == "off"


def test_errors_of_wandb_are_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with never_fatal("all is well"):
        raise RuntimeError("the service is gone\nand more")
    assert capsys.readouterr().err == "warning: W&B does not answer (the service is gone); all is well\n"
    with pytest.raises(UserError), never_fatal("all is well"):
        raise UserError("wrong")


def test_no_reports_to_its_maker() -> None:
    code = "import parlab.tracking.runs, os, wandb; from wandb.env import error_reporting_enabled as e; print(e())"
    clean = {k: v for k, v in environment().items() if k != "WANDB_ERROR_REPORTING"}
    for more, wanted in (({}, "False"), ({"WANDB_ERROR_REPORTING": "true"}, "True")):
        run = subprocess.run([sys.executable, "-c", code], env={**clean, **more}, capture_output=True, text=True)
        assert run.stdout.strip() == wanted, run.stderr


def sweep(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    options = ["--decoder.threshold", "0.9,0.99", "--timed_utterances", "0", "--limit", "2"]
    return ["sweep", "--model", str(model), "--data", str(data), "--out", str(out), *options, *more]


@pytest.mark.parametrize("layout", ["table", "group"])
def test_a_sweep_without_a_network_keeps_its_table(
    layout: str, no_server: None, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s"
    assert main(sweep(model, data, out, "--wandb_layout", layout)) == 0
    shown = capsys.readouterr()
    assert shown.err.count("warning: W&B does not answer") == 1
    assert "threshold=0.99" in shown.out
    assert len(offline_runs(out)) == (1 if layout == "table" else 2)
    assert main(["report", str(out), "--out", str(tmp_path / "r.html"), "--wandb", "online"]) == 0
    assert (tmp_path / "r.html").is_file() and len(offline_runs(tmp_path)) == 1


def test_a_training_without_a_network_goes_on(
    no_server: None, fit_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(fit_config), "--wandb", "auto", "--trainer.max_epochs", "1"]) == 0
    assert "warning: W&B does not answer" in capsys.readouterr().err
    assert len(offline_runs(tmp_path / "run")) == 1 and (tmp_path / "run/model/model.pth").is_file()


@pytest.mark.parametrize(
    ("option", "sentence"), [(["--wandb", "onlin"], "did you mean 'online'"), ([], "WANDB_MODE is 'bogus'")]
)
@pytest.mark.parametrize("command", ["fit", "sweep", "report", "predict"])
def test_a_wrong_mode_is_refused_before_the_work(  # 8 parameters: five are fixtures
    command: str,
    option: list[str],
    sentence: str,
    model: Path,
    data: Path,
    fit_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not option:
        monkeypatch.setenv("WANDB_MODE", "bogus")
    out = tmp_path / "out"
    commands = {
        "fit": ["fit", "--config", str(fit_config), "--trainer.default_root_dir", str(out)],
        "sweep": sweep(model, data, out),
        "report": ["report", "nowhere", "--out", str(out)],
        "predict": ["predict", "--model", str(model), "--data", str(data), "--out", str(out), "--decoder", "greedy"],
    }
    assert main([*commands[command], *(option or ["--wandb", "auto"])]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line
    assert not out.exists()


def test_a_wrong_layout_is_refused_before_the_work(model: Path, data: Path, tmp_path: Path) -> None:
    assert main(sweep(model, data, tmp_path / "s", "--wandb_layout", "tabel")) == 2
    assert not (tmp_path / "s").exists()
