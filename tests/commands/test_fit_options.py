"""Lightning's options for the Trainer: honoured or refused; what a training says while it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from parlab.cli import main
from parlab.commands.fit.callbacks import TrainingBar, time_left
from parlab.commands.fit.command import fit
from tests.helpers import environment


def steps(run: Path) -> int:
    return int(torch.load(run / "checkpoints/last.ckpt", weights_only=True)["global_step"])


def test_a_fast_dev_run_leaves_nothing(fit_config: Path, tmp_path: Path, capsys: Any) -> None:
    options = ["--config", str(fit_config), "--wandb", "offline", "--trainer.fast_dev_run", "true"]
    assert fit(options) == 0
    assert not list((tmp_path / "run").rglob("*"))
    assert fit(["--config", str(fit_config), "--trainer.max_epochs", "1"]) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    assert fit([*options, "--model.optim.lr", "0.5"]) == 0  # a trial touches no training, not even another one's
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize(("limit", "wanted"), [("2", 4), ("0.5", 6)])
def test_limited_batches(fit_config: Path, tmp_path: Path, limit: str, wanted: int) -> None:
    """2 of the 7 batches of each of 2 epochs; half of them, rounded down."""
    assert fit(["--config", str(fit_config), "--trainer.limit_train_batches", limit]) == 0
    assert steps(tmp_path / "run") == wanted


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trainer.overfit_batches", "2"], "trainer.overfit_batches is 2"),
        (["--trainer.use_distributed_sampler", "true"], "use_distributed_sampler is true"),
        (["--trainer.reload_dataloaders_every_n_epochs", "1"], "reload_dataloaders_every_n_epochs is 1"),
        (["--trainer.enable_checkpointing", "false"], "enable_checkpointing is false"),
        (["--trainer.barebones", "true"], "barebones is true"),
        (["--trainer.precision", "17-mixed"], "precision"),
        (["--trainer.val_check_interval", "100"], "val_check_interval"),
        (["--trainer.accelerator", "gpux"], "the trainer's options do not fit"),
        (
            ["--trainer.callbacks", "[{class_path: lightning.pytorch.callbacks.RichProgressBar}]"],
            "the trainer's options do not fit",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(fit_config: Path, options: list[str], sentence: str, capfd: Any) -> None:
    assert main(["fit", "--config", str(fit_config), *options]) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("parlab: ") and sentence in last, last


COUNTER = """
from pathlib import Path
from lightning.pytorch import Callback

class Counter(Callback):
    def __init__(self, path: str):
        self.path = path

    def on_train_batch_end(self, *_):
        with open(self.path, "a") as out:
            out.write("x")
"""


def test_callbacks_of_the_user_run(fit_config: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "counting.py").write_text(COUNTER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    callback = f"{{class_path: counting.Counter, init_args: {{path: {tmp_path / 'count'}}}}}"
    options = ["--trainer.callbacks", f"[{callback}]", "--trainer.max_epochs", "1"]
    assert fit(["--config", str(fit_config), *options]) == 0
    assert (tmp_path / "count").read_text() == "x" * 7


def test_a_callback_that_cannot_be_recorded(fit_config: Path, capsys: Any) -> None:
    callback = "{class_path: lightning.pytorch.callbacks.Timer, init_args: {duration: {seconds: 1}}}"
    assert main(["fit", "--config", str(fit_config), "--trainer.callbacks", f"[{callback}]"]) == 2
    assert "cannot represent an object" in capsys.readouterr().err.splitlines()[-1]


def test_the_bar_shows_the_time_left() -> None:
    bar = TrainingBar()
    timer = Timer(duration={"minutes": 25})
    bar._trainer = SimpleNamespace(callbacks=[timer], max_epochs=1000, sanity_checking=False)  # type: ignore[assignment]
    assert bar._get_train_description(9).strip() == "Epoch 9, 0:25:00 left"
    bar._trainer.callbacks = []  # type: ignore[misc]
    assert bar._get_train_description(9).strip() == "Epoch 9/999"
    assert time_left(bar._trainer) is None


def test_a_quiet_console(fit_config: Path, tmp_path: Path) -> None:
    """Stdout has our lines and the bar; stderr is empty: no tips, no warnings, also where a training goes on."""
    command = [
        sys.executable,
        "-m",
        "parlab",
        "fit",
        "--config",
        str(fit_config),
        "--trainer.enable_progress_bar",
        "true",
    ]
    for more in (["--trainer.max_steps", "3"], ["--trainer.max_time", "00:00:00:02", "--trainer.max_epochs", "1000"]):
        env = {**environment(), "COLUMNS": "120"}
        env.pop("PYTHONWARNINGS", None)
        run = subprocess.run([*command, *more], env=env, capture_output=True, text=True, timeout=100)
        assert run.returncode == 0 and run.stderr == "", run.stderr
        lines = [line.strip() for line in run.stdout.splitlines() if line.strip()]
        known = ("model: ", "data: ", "epoch ", "Epoch ", "wrote ", "goes on from ", "loss", "dev/wer")
        assert all(line.startswith(known) for line in lines), run.stdout
    assert " left" in run.stdout and "/999" not in run.stdout
    assert os.path.exists(tmp_path / "run/model/model.pth")
