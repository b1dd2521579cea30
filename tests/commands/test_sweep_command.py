"""``sweep`` with a tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.commands.report import write_report
from parlab.commands.sweep.command import print_points
from parlab.commands.sweep.grid import Point, make_points, split_values
from parlab.decode import PAR
from parlab.errors import UserError
from parlab.predictions.metrics import Metrics, Named, Speed
from parlab.predictions.prediction import read_predictions
from tests.helpers import environment, lines, manifest, noise


def test_points_of_a_sweep() -> None:
    assert split_values(["--decoder.threshold", "0.5,0.9", "--out", "x"]) == [
        "--grid.threshold",
        "[0.5, 0.9]",
        "--out",
        "x",
    ]
    points = make_points("par", {"threshold": [0.5, 0.9], "beam_size": [1, 4], "max_seq_len": ["auto"]})
    assert len(points) == 4
    assert points[0].decoder == PAR(threshold=0.5, beam_size=1)
    assert len(make_points("par", {"threshold": [0.1, 0.2, 0.3]}, sample=2)) == 2
    assert len(make_points("par", {}, [{"threshold": 0.4}])) == 1
    with pytest.raises(UserError, match="did you mean 'threshold'"):
        make_points("par", {"treshold": [0.5]})
    with pytest.raises(UserError, match="expected a probability"):
        make_points("par", {"threshold": [0.5, 7]})


def test_the_table_of_points(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Names may hold markup and control characters; search time is per second of audio, whatever was timed."""
    monkeypatch.setenv("COLUMNS", "80")
    speed = Speed(rtfx=20.0, search_seconds=3.0, audio_seconds=120.0, load_seconds=2.0, wall_seconds=8.0)
    point = Point("lm=a[/x]b\x1b[2J", {}, PAR())
    print_points("runs/[/y]", [(point, Metrics(Named("par"), speed=speed)), (point, Metrics(Named("par")))])
    shown = capsys.readouterr().out
    assert "runs/[/y]" in shown and r"lm=a[/x]b\x1b[2J" in shown and "\x1b" not in shown
    assert "0.025" in shown and "3.0" not in shown
    assert "loading" in shown and "15.0" in shown  # 120 s of audio in 8 s
    assert "\u2026" not in shown


def sweep(model: Path, data: Path, out: Path, *more: str) -> int:
    base = ["sweep", "--model", str(model), "--data", str(data), "--out", str(out), "--wandb", "off"]
    options = [
        "--decoder.threshold",
        "0.9,0.999",
        "--decoder.beam_size",
        "1,3",
        "--timed_utterances",
        "2",
        "--repeats",
        "1",
    ]
    return main([*base, *options, *more])


@pytest.mark.slow  # a process starts
def test_a_quiet_console(model: Path, data: Path, tmp_path: Path) -> None:
    """In a process of its own, as users start it: the bars and the table, no tips and no warnings of other packages."""
    env = {k: v for k, v in environment().items() if k != "PYTHONWARNINGS"}
    asked = [sys.executable, "-m", "parlab", "sweep", "--model", str(model), "--data", str(data), "--wandb", "off"]
    asked += ["--out", str(tmp_path / "s"), "--decoder.threshold", "0.9,0.99", "--limit", "2", "--repeats", "1"]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    bars = ("encoding", "decoding points", "timing points")
    assert all(line.startswith(bars) for line in done.stderr.splitlines() if line.strip()), done.stderr
    known = (*bars, "\u250f", "\u2503", "\u2521", "\u2502", "\u2514")
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    assert all(line.startswith(known) or line in str(tmp_path / "s") for line in lines), done.stdout
    assert "threshold=0.99" in done.stdout


def test_sweep(model: Path, data: Path, tmp_path: Path) -> None:
    """Each point is what ``predict`` gives with its options; an interrupted sweep goes on."""
    out = tmp_path / "s"
    assert sweep(model, data, out) == 0
    point = out / "points" / "threshold=0.999,beam_size=3"
    options = ["--decoder", "par", "--decoder.threshold", "0.999", "--decoder.beam_size", "3", "--progress", "false"]
    inputs = ["--model", str(model), "--data", str(data), "--out", str(tmp_path / "p")]
    assert main(["predict", *inputs, *options, "--wandb", "off"]) == 0
    alone = json.loads((tmp_path / "p" / "metrics.json").read_text())
    metrics = json.loads((point / "metrics.json").read_text())
    assert metrics["wer"] == alone["wer"]
    assert [r["tokens"] for r in lines(point)] == [r["tokens"] for r in lines(tmp_path / "p")]
    assert metrics["speed"]["timed_utterances"] == 2
    assert metrics["speed"]["encode_seconds"] > 0  # timed in full, not from cached outputs
    assert metrics["speed"]["wall_seconds"] > metrics["speed"]["load_seconds"] > 0
    narrow = json.loads((out / "points" / "threshold=0.999,beam_size=1" / "metrics.json").read_text())
    assert 0 < narrow["search_memory_bytes"] < metrics["search_memory_bytes"]
    assert metrics["speed"]["peak_memory_bytes"] > 0
    kept = {p: (p / "metrics.json").stat().st_mtime_ns for p in (out / "points").iterdir()}
    shutil.rmtree(point)
    assert sweep(model, data, out) == 0
    again = {p: (p / "metrics.json").stat().st_mtime_ns for p in (out / "points").iterdir()}
    assert {p for p in kept if again[p] != kept[p]} == {point}
    assert json.loads((point / "metrics.json").read_text())["wer"] == alone["wer"]
    assert len(read_predictions([out])) == 4
    write_report([out], tmp_path / "sweep.html")
    assert (tmp_path / "sweep_files" / "threshold.png").is_file()


def test_sweep_beyond_its_memory(model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    """Encoder outputs go to mapped files beyond the bound, with the same result; where both are full, the error says so."""
    assert sweep(model, data, tmp_path / "a") == 0
    assert sweep(model, data, tmp_path / "b", "--memory_gib", "0") == 0
    name = "threshold=0.999,beam_size=3"
    a, b = (lines(tmp_path / f / "points" / name) for f in "ab")
    assert [r["tokens"] for r in a] == [r["tokens"] for r in b]
    assert not list((tmp_path / "b" / "cache").glob("*.f32"))
    capsys.readouterr()
    assert sweep(model, data, tmp_path / "c", "--memory_gib", "0", "--disk_gib", "0") == 2
    assert "raise memory_gib or disk_gib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder.threshold", "abc"], "cannot have threshold='abc'"),
        (["--decoder.beam_size", "2.5"], "cannot have beam_size=2.5"),
        (["--decoder.threshold", "{"], "expected values with commas between"),
    ],
)
def test_sweep_refuses_values_of_another_type(
    options: list[str], message: str, model: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    base = ["sweep", "--model", str(model), "--data", str(data), "--out", str(tmp_path / "s"), "--wandb", "off"]
    assert main([*base, *options]) == 2
    assert message in capsys.readouterr().err


def test_sweep_reads_parts_of_files_and_tries_again_what_failed(model: Path, tmp_path: Path) -> None:
    noise(tmp_path / "long.wav", 8.0)
    entries = [{"id": f"u{i}", "audio_filepath": "long.wav", "offset": 1.0 * i, "duration": 1.0} for i in range(2)]
    entries.append({"id": "late", "audio_filepath": "late.wav", "duration": 1.0})
    data = manifest(tmp_path, [{**e, "text": "a bad cab"} for e in entries])
    assert sweep(model, data, tmp_path / "s") == 1
    point = tmp_path / "s" / "points" / "threshold=0.999,beam_size=3" / "metrics.json"
    before = json.loads(point.read_text())
    assert before["speed"]["audio_seconds"] == pytest.approx(2.0)
    assert [f["id"] for f in before["failed"]] == ["late"]
    noise(tmp_path / "late.wav", 1.0)
    assert sweep(model, data, tmp_path / "s") == 0
    after = json.loads(point.read_text())
    assert after["utterances"] == 3
    assert after["failed"] == []
