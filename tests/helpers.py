"""Small audio, manifests and commands for the tests of predictions, and readers of what they wrote."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from parlab.commands.predict.options import PredictOptions
from parlab.decode import Decoder
from parlab.predictions.metrics import Metrics

SENTENCES = ["a bad cab", "bead", "deaf face", "cafe", "ad", "fade a bed", "gag", "had"]


def noise(path: Path, seconds: float, rate: int = 16000, channels: int = 1, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    n = max(1, int(seconds * rate))
    tone = np.sin(np.cumsum(rng.uniform(0.01, 0.4, n))) * 0.3
    samples = tone if channels == 1 else np.stack([tone] * channels, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def manifest(folder: Path, entries: list[dict[str, Any]]) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps(e) + "\n" for e in entries))
    return path


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "hypotheses.jsonl").read_text().splitlines()]


def timeless(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines(out)]


def command(model: Path, data: Path, out: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "parlab", "predict", "--model", str(model), "--data", str(data), "--out", str(out)]
    return [*base, "--decoder", "par", "--decoder.threshold", "0.999", "--wandb", "off", "--progress", "false", *more]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def predict(model: Path | str, data: Path | str, decoder: Decoder, out: Path, **changes: Any) -> Metrics | None:
    """``parlab.commands.predict`` without W&B and progress."""
    from parlab.commands.predict.run import predict as run_predict

    quiet = {"wandb": "off", "progress": False, **changes}
    return run_predict(PredictOptions(model=str(model), data=str(data), out=str(out), decoder=decoder, **quiet))
