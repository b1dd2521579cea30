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
