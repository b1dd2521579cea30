"""A sweep whose points are shared by two processes: the points of one process, bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.commands.sweep.command import make_fabric
from parlab.errors import UserError
from tests.helpers import environment

GRID = ["--decoder.threshold", "0.9,0.999", "--decoder.beam_size", "1,3"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def arguments(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    base = [
        "sweep",
        "--model",
        str(model),
        "--data",
        str(data),
        "--out",
        str(out),
        "--wandb",
        "off",
        "--accelerator",
        "cpu",
    ]
    return [*base, "--batch_size", "1", "--timed_utterances", "2", "--repeats", "1", *more]


def start(given: list[str], launcher: list[str]) -> subprocess.CompletedProcess[str]:
    asked = [sys.executable, *launcher, "-m", "parlab", *given]
    return subprocess.run(asked, env=environment(), capture_output=True, text=True, timeout=240)


def points(out: Path) -> dict[str, dict[str, Any]]:
    """What each point found, speed aside: its metrics, and its hypotheses as bytes."""
    found = {}
    for folder in sorted((out / "points").iterdir()):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics.pop("speed")["timed_utterances"] == 2
        found[folder.name] = {**metrics, "bytes": (folder / "hypotheses.jsonl").read_bytes()}
    return found


@pytest.fixture
def alone(model: Path, data: Path, tmp_path: Path, one_thread: None) -> dict[str, dict[str, Any]]:
    """The points of one process."""
    assert main(arguments(model, data, tmp_path / "alone", *GRID)) == 0
    return points(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_give_the_points_of_one(
    launcher: str,
    model: Path,
    data: Path,
    alone: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    """Encoder outputs are mapped from files, which the two must not share."""
    out = tmp_path / "two"
    asked = arguments(
        model, data, out, *GRID, "--memory_gib", "0", *(["--devices", "2"] if launcher == "lightning" else [])
    )
    done = start(asked, TORCHRUN if launcher == "torchrun" else [])
    assert done.returncode == 0, done.stderr[-2000:]
    two = points(out)
    assert len(two) == 4
    assert {name: found["wer"] for name, found in two.items()} == {name: found["wer"] for name, found in alone.items()}
    assert two == alone
    assert len(re.findall(r"decoding points\D+ 2/2 ", done.stdout)) == 2  # half of the points each
    assert sorted(folder.name for folder in out.glob("cache*")) == ["cache", "cache1"]
    assert not list(out.rglob("*.f32"))


@pytest.mark.slow
def test_a_process_without_a_point_and_a_restart_with_two(
    model: Path,
    data: Path,
    alone: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    """One point for two processes; then, in the folder of a lone process, the three points that are missing."""
    done = start(arguments(model, data, tmp_path / "one", "--decoder.threshold", "0.999", "--devices", "2"), [])
    assert done.returncode == 0, done.stderr[-2000:]
    assert points(tmp_path / "one").keys() == {"threshold=0.999"}
    folders = sorted((tmp_path / "alone" / "points").iterdir())
    kept = folders[0].joinpath("metrics.json").read_bytes()
    for folder in folders[1:]:
        folder.joinpath("metrics.json").unlink()  # as an interrupted sweep leaves it
    done = start(arguments(model, data, tmp_path / "alone", *GRID, "--devices", "2"), [])
    assert done.returncode == 0, done.stderr[-2000:]
    assert points(tmp_path / "alone") == alone
    assert folders[0].joinpath("metrics.json").read_bytes() == kept


@pytest.mark.slow
def test_another_configuration_is_told_once(model: Path, data: Path, tmp_path: Path) -> None:
    """In one sentence, and no process is left waiting for the one that told it."""
    assert main(arguments(model, data, tmp_path / "p", "--decoder.threshold", "0.9", "--timed_utterances", "0")) == 0
    done = start(arguments(model, data, tmp_path / "p", *GRID, "--devices", "2", "--normalizer", "lower"), [])
    assert done.returncode == 2
    assert done.stderr.count("another configuration") == 1
    assert "Traceback" not in done.stderr


def test_a_point_may_take_hours_more_than_the_others() -> None:
    """Lightning's default lets a process wait for half an hour."""
    assert make_fabric("cpu", 2).strategy._timeout.total_seconds() > 7 * 24 * 3600


def test_other_devices_than_torchruns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--devices is 1, but torchrun started 2 processes"):
        make_fabric("cpu", 1)
