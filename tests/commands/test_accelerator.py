"""A sweep and the training loss on the make-believe accelerator (``tests/fake_device``): the CPU's results, no mixed devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(600)  # the first test waits for all
KINDS = ("asr", "intermediate ctc", "ctc only", "branchformer", "specaug and global mean", "s2t")


@cache
def results() -> dict[str, Any]:
    """What the device's own process reports; its backend cannot be taken back."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "tests.fake_device", "--wholes", str(file)]
        run = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert run.returncode == 0, run.stderr
        return json.loads(file.read_text(encoding="utf-8"))


def test_a_sweep() -> None:
    """Every point decodes and is timed on the device; its results are those of the CPU."""
    found = results()["sweep"]
    assert not found["mixed"]
    assert set(found["device"]) == {"threshold=0.9,beam_size=2", "threshold=0.999,beam_size=2"}
    for name, point in found["cpu"].items():
        assert point["masked"] > 0 and len(point["lines"]) == 5
        other = found["device"][name]
        assert {**other, "scores": []} == {**point, "scores": []}
        assert other["scores"] == pytest.approx(point["scores"], abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradients(kind: str) -> None:
    found = results()["losses"][kind]
    assert not found["mixed"]
    wanted, device = found["cpu"], found["device"]
    assert device["values"] == pytest.approx(wanted["values"], rel=1e-5)
    assert wanted["values"]["total"] > 1
    assert device["gradients"].keys() == wanted["gradients"].keys()
    assert device["gradients"] == pytest.approx(wanted["gradients"], rel=1e-4, abs=1e-6)
    assert max(wanted["gradients"].values()) > 0.1


def test_every_kind_is_listed() -> None:
    assert tuple(results()["losses"]) == KINDS


def test_an_estimate_adds_up() -> None:
    """100 launches, 1000 kernels in graphs and 2 waits; 10^12 operations; 4 GB of float32, which is 2 GB of bfloat16."""
    found = results()["work"]
    starting, working = found["known"][0]
    assert starting == pytest.approx(0.5 + 2.0 + 0.05)
    assert working == pytest.approx(1000 * max(1e12 / (989e12 * 0.3), 2e9 / (3.35e12 * 0.5)))
    assert found["known"][1][0] == pytest.approx(5.5 + 0.05)
    # A tiny model's encoder and CTC head: by hand its output layer alone has 2 B T D V operations.
    counts = found["counts"]
    assert counts["encoder"]["flops"] > 2 * 2 * 49 * 32 * 50
    assert counts["greedy"]["in_graph"] == 0 < counts["par"]["in_graph"]
    assert counts["ar"]["in_graph"] > counts["par"]["in_graph"]
    assert counts["greedy"]["syncs"] == 1
    names = [row[0] for row in found["rows"]]
    assert names == ["greedy", "par, attention only", "par", "ar"]
    assert float(found["rows"][0][-2]) == 1.0
