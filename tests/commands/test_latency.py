"""Latency: one utterance at a time, with and without loading, in ``predict`` and in ``sweep``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parlab.cli import main
from parlab.commands.compare.comparison import compare
from parlab.commands.compare.text import markdown
from parlab.decode import Greedy
from parlab.errors import UserError
from parlab.metrics.speed import Timing
from parlab.predictions.metrics import Environment
from parlab.predictions.prediction import read_prediction
from parlab.predictions.summary import Timed, speed_of
from tests.helpers import predict


def test_latency_from_the_file_counts_loading() -> None:
    timed = [Timed(2.0, Timing(load=0.5, encode=0.1, search=0.1, latency=0.2 + 0.01 * i)) for i in range(5)]
    alone = speed_of(timed, Environment(1, "32-true", "a processor", 1, 0))
    assert alone.latency_p50 == pytest.approx(0.22)
    assert alone.latency_with_loading_p50 == pytest.approx(0.72)
    assert alone.latency_with_loading_p99 == pytest.approx(0.5 + (alone.latency_p99 or 0))
    assert alone.rtfx == pytest.approx(10.0)
    assert alone.rtfx_with_loading == pytest.approx(2.0 / 0.7)
    batch = speed_of(timed, Environment(8, "32-true", "a processor", 1, 0))
    assert batch.latency_with_loading_p50 is None  # loading is a share of the batch's there
    assert batch.rtfx_with_loading == pytest.approx(2.0 / 0.7)
    loaded = [Timed(2.0, Timing(encode=0.1, search=0.1, latency=0.2))]
    assert speed_of(loaded, Environment(1, "32-true", "a processor", 1, 0)).rtfx_with_loading is None


def test_predict(model: Path, data: Path, tmp_path: Path) -> None:
    """The texts are those of a batch; the folder is one of latency."""
    predict(model, data, Greedy(), tmp_path / "batch", batch_size=8)
    found = predict(model, data, Greedy(), tmp_path / "one", batch_size=8, latency=True)
    assert found is not None and found.speed is not None
    speed = found.speed
    assert speed.batch_size == 1
    for share in ("p50", "p90", "p99"):
        assert getattr(speed, f"latency_with_loading_{share}") > getattr(speed, f"latency_{share}") > 0
    assert (tmp_path / "one" / "metrics.json").read_text().count("latency_with_loading") == 3
    one, batch = (read_prediction(tmp_path / name) for name in ("one", "batch"))
    assert [r.text for r in one.records] == [r.text for r in batch.records]
    assert all((r.seconds or 0) > 0 for r in one.records)
    assert f"| {speed.rtfx_with_loading:.1f} |" in markdown(compare([one, batch], replicates=100))
    with pytest.raises(UserError, match="latency"):
        predict(model, data, Greedy(), tmp_path / "one", batch_size=8)


def test_sweep(model: Path, data: Path, tmp_path: Path) -> None:
    options = ["--decoder.threshold", "0.9,0.999", "--timed_utterances", "2", "--repeats", "1", "--latency", "true"]
    command = ["sweep", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "s"), "--wandb", "off"]
    assert main([*command, *options]) == 0
    points = sorted((tmp_path / "s" / "points").iterdir())
    assert len(points) == 2
    for point in points:
        speed = json.loads((point / "metrics.json").read_text())["speed"]
        assert speed["batch_size"] == 1 and speed["timed_utterances"] == 2
        assert speed["latency_p99"] <= speed["seconds_max"]
