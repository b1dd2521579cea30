"""``fit`` and ``sweep`` killed at a random moment; the same command again ends as an unbroken one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.cli import main
from tests.commands.test_fit import assert_same, weights
from tests.helpers import environment, lines

KILLS = range(int(os.environ.get("PARLAB_KILLS", "1")))


def kill(command: list[str], began: Callable[[], bool], seconds: float) -> None:
    """Start a command and kill it, so many seconds after it began to write."""
    process = subprocess.Popen(
        [sys.executable, "-m", "parlab", *command],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not began() and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def fit_command(config: Path, run: Path) -> list[str]:
    options = ["--trainer.default_root_dir", str(run), "--trainer.max_epochs", "6", "--checkpoint.save_top_k", "2"]
    return ["fit", "--config", str(config), *options, "--checkpoint.monitor", "dev/loss"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", KILLS)
def test_a_training_killed_at_a_random_moment(seed: int, fit_config: Path, tmp_path: Path, one_thread: None) -> None:
    """The last checkpoint and the exported model are those of an unbroken training, bit by bit."""
    whole, run = tmp_path / "whole", tmp_path / "killed"
    assert main(fit_command(fit_config, whole)) == 0
    rng = random.Random(seed)
    # Six epochs take about two seconds: the kill comes while tokenizer, checkpoints or model are written, or after.
    kill(fit_command(fit_config, run), (run / "fit.yaml").is_file, rng.random() * 2.5)
    assert main(fit_command(fit_config, run)) == 0
    assert_same(*(weights(folder / "checkpoints/last.ckpt") for folder in (whole, run)))
    assert_same(*(torch.load(folder / "model/model.pth", weights_only=True) for folder in (whole, run)))
    assert {p.name for p in (run / "model").iterdir()} == {p.name for p in (whole / "model").iterdir()}


def without_speed(point: Path) -> dict[str, Any]:
    """The metrics of a point that do not depend on the time; where parlab ran from may differ."""
    metrics = json.loads((point / "metrics.json").read_text())
    return {k: v for k, v in metrics.items() if k not in {"speed", "search_memory_bytes"}}


@pytest.mark.slow
@pytest.mark.parametrize("seed", KILLS)
def test_a_sweep_killed_at_a_random_moment(
    seed: int, model: Path, data: Path, tmp_path: Path, one_thread: None
) -> None:
    """The points have the hypotheses and the metrics of an unbroken sweep."""

    def command(out: Path) -> list[str]:
        options = ["--decoder.threshold", "0.9,0.99,0.999", "--decoder.beam_size", "1,3", "--wandb", "off"]
        inputs = ["--model", str(model), "--data", str(data), "--out", str(out)]
        return ["sweep", *inputs, *options, "--timed_utterances", "2", "--repeats", "1"]

    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert main(command(whole)) == 0
    rng = random.Random(seed)
    kill(command(out), (out / "sweep.json").is_file, rng.random() * 2.0)
    assert main(command(out)) == 0
    points = sorted(p.name for p in (whole / "points").iterdir())
    assert len(points) == 6 and sorted(p.name for p in (out / "points").iterdir()) == points
    for name in points:
        killed, unbroken = out / "points" / name, whole / "points" / name
        assert lines(killed) == lines(unbroken)
        assert without_speed(killed) == without_speed(unbroken)
        assert json.loads((killed / "metrics.json").read_text())["speed"]["timed_utterances"] == 2
    assert not list(out.rglob("*.partial"))
