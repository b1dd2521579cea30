"""Every decoder on a make-believe accelerator (``tests/fake_device``): the CPU's results, no mixed devices, few host syncs."""

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
import torch

from parlab.decode.scorers.language_model import LanguageModelScorer
from parlab.model.language_model import read_language_model
from tests.fake_device.cases import cases
from tests.models import write_lm

ROOT = Path(__file__).resolve().parents[2]
NAMES = [case.name for case in cases(Path())]


@cache
def results() -> dict[str, Any]:
    """What the device's own process reports of all cases; one process, because its backend cannot be taken back."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "tests.fake_device", "--check", str(file)]
        run = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert run.returncode == 0, run.stderr
        return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_cpus_results_and_no_mixed_devices(name: str) -> None:
    found = results()[name]
    assert "error" not in found, found["error"]
    assert found["same"]
    assert not found["mixed"]


def syncs(name: str) -> int:
    return results()[name]["syncs"].get("search", 0)


@pytest.mark.parametrize(
    ("name", "most"),
    [("greedy", 2), ("s2t, greedy", 2), ("ctc_beam", 1), ("rescore", 2), ("rescore, lm", 2), ("s2t, rescore", 2)],
)
def test_syncs_of_decoders_without_steps(name: str, most: int) -> None:
    assert syncs(name) <= most


@pytest.mark.parametrize("name", ["speculative", "s2t, speculative"])
def test_speculative_decoding_waits_once_a_pass(name: str) -> None:
    passes = results()[name]["passes"]
    assert passes > 3
    assert syncs(name) <= passes + 2


def test_segments_are_searched() -> None:
    """What the cases of PAR check is a search of many segments."""
    assert results()["par"]["segments"] >= 8
    assert results()["par"]["steps"] >= 4


@pytest.mark.parametrize("kind", ["transformer", "seq_rnn"])
def test_language_models_are_normalised_in_float32(kind: str, tmp_path: Path) -> None:
    """Under autocast to bfloat16 the probabilities still sum to 1."""
    lm = read_language_model(str(write_lm(tmp_path / kind, kind)), 21, torch.device("cpu"))
    scorer = LanguageModelScorer(lm, [(20, 3, 4), (20,)], 0.5, torch.device("cpu"))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits, normalizer = scorer.score(scorer.start())
    assert logits.dtype == normalizer.dtype == torch.float32
    torch.testing.assert_close((logits - normalizer).exp().sum(1), torch.ones(2), atol=1e-5, rtol=0.0)
