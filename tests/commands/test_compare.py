"""``compare`` on predictions of a tiny model."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from parlab.cli import main
from parlab.commands.compare.comparison import compare
from parlab.commands.compare.text import markdown
from parlab.commands.report.confidence import reliability
from parlab.errors import UserError
from parlab.metrics.paired import PairedDifference
from parlab.predictions.prediction import read_prediction
from parlab.predictions.rates import verdict, warnings_of_size
from tests.helpers import environment, lines


def test_comparison_says_what_the_files_say(folders: list[Path]) -> None:
    found = [read_prediction(f) for f in folders]
    result = compare(found, replicates=500).to_json()
    for system, prediction in zip(result["systems"], found, strict=True):
        assert system["wer"]["rate"] == prediction.metrics.wer.rate
        assert system["wer"]["low"] <= system["wer"]["rate"] <= system["wer"]["high"]
    pair = result["pairs"][0]
    gain = found[1].metrics.wer.rate - found[0].metrics.wer.rate
    assert pair["by_utterance"]["difference"] == pytest.approx(gain)
    assert "by_speaker" in pair
    assert {d["id"] for d in pair["differences"]} == {
        a["id"] for a, b in zip(lines(folders[0]), lines(folders[1]), strict=True) if a["text"] != b["text"]
    }


@pytest.mark.slow  # processes start
@pytest.mark.parametrize(("command", "option"), [("compare", "--json"), ("report", "--out")])
def test_a_quiet_console(command: str, option: str, folders: list[Path], tmp_path: Path) -> None:
    """In a process of its own, as users start it: standard error holds no tips and no warnings of other packages."""
    env = {k: v for k, v in environment().items() if k != "PYTHONWARNINGS"}
    asked = [sys.executable, "-m", "parlab", command, *map(str, folders), option, str(tmp_path / command)]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-0.02, -0.01, "better on 200 utterances"),
        (-0.01, 0.004, "no worse than 0.50% on 200 utterances"),
        (0.01, 0.02, "worse by more than 0.50% on 200 utterances"),
        (
            -0.01,
            0.02,
            "undecided on 200 utterances: it may be worse by up to 2.00%, the margin is 0.50%; more utterances than can be told would decide",
        ),
        (
            -0.02,
            0.02,
            "undecided on 200 utterances: it may be worse by up to 2.00%, the margin is 0.50%; about 3,200 utterances like these would decide",
        ),
        (
            0.001,
            0.02,
            "worse on 200 utterances, by up to 2.00%; whether by more than 0.50%, about 600 utterances like these would decide",
        ),
        (-math.inf, math.inf, "undecided: 200 utterances are too few for an interval of 95 %, expected at least 6"),
    ],
)
def test_verdicts(low: float, high: float, said: str) -> None:
    """With the set's size, the margin, and the size that would decide."""
    middle = (low + high) / 2 if math.isfinite(low) else 0.0
    assert verdict(PairedDifference(middle, low, high, 0.5, 200), 0.005) == said


def test_small_sets_are_warned_of(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, folders[:2]), "--replicates", "100"]) == 0
    assert "fewer than 100: another set of this kind may well say otherwise" in " ".join(
        capsys.readouterr().out.split()
    )
    assert warnings_of_size(100, 12) == warnings_of_size(5000, None) == ()
    assert [w.split(",")[0] for w in warnings_of_size(99, 11)] == ["99 utterances with a reference", "11 speakers"]


def test_figures_are_whole_in_80_columns(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long names are folded; error rates, intervals, both RTFx and search times stand in full, tiny ones rounded."""
    monkeypatch.setenv("COLUMNS", "80")
    named = []
    for folder, search in zip(folders[:2], (0.001, 0.00001), strict=True):
        other = tmp_path / f"a-long-name-of-a-point-with-a-threshold-and-a-beam-{folder.name}"
        shutil.copytree(folder, other)
        metrics = json.loads((other / "metrics.json").read_text())
        metrics["speed"] |= {"rtfx": 12345.6, "wall_seconds": 2.0, "load_seconds": 1.0, "audio_seconds": 12000.0}
        metrics["speed"]["search_seconds"] = search * 12000.0
        (other / "metrics.json").write_text(json.dumps(metrics))
        named.append(other)
    assert main(["compare", *map(str, named), "--replicates", "100"]) == 0
    table = capsys.readouterr().out.split("warning")[0]
    assert "\u2026" not in table
    assert all(len(line) <= 80 for line in table.splitlines())
    for system in compare([read_prediction(f) for f in named], replicates=100).systems:
        assert system.wer is not None
        assert f"{100 * system.wer.counts.rate:.2f}" in table
        assert f"[{100 * system.wer.low:.1f}, {100 * system.wer.high:.1f}]" in table
    words = table.split()
    assert words.count("12345.6") == 2 and words.count("6000.0") == 2
    assert "0.0010" in words and "< 0.0001" in table


@pytest.mark.parametrize("change", ["ids", "ref", "normalizer"])
def test_other_data_are_refused(change: str, folders: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders[1], other)
    records = lines(other)
    metrics = json.loads((other / "metrics.json").read_text())
    if change == "ids":
        records = records[1:]
        metrics["utterances"] = len(records)
    elif change == "ref":
        records[0]["ref"] = "something else"
    else:
        metrics["normalizer"] = {"name": "lower", "version": "1"}
    (other / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (other / "metrics.json").write_text(json.dumps(metrics))
    message = {"ids": "different utterances", "ref": "different references", "normalizer": "different normalizers"}
    with pytest.raises(UserError, match=message[change]):
        compare([read_prediction(folders[0]), read_prediction(other)])


def test_compare_command(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.json"
    assert main(["compare", *map(str, folders), "--json", str(out), "--replicates", "200"]) == 0
    assert "verdict" in capsys.readouterr().out
    assert len(json.loads(out.read_text())["pairs"]) == 2
    assert main(["compare", str(folders[0])]) == 2
    assert main(["compare", str(folders[0]), str(tmp_path)]) == 2
    assert "holds no prediction" in capsys.readouterr().err


def test_audio_that_differs_is_refused(folders: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders[1], other)
    records = lines(other)
    records[0]["duration"] += 1.0
    (other / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    with pytest.raises(UserError, match="different audio"):
        compare([read_prediction(folders[0]), read_prediction(other)])


def test_impossible_margins_are_refused(folders: list[Path]) -> None:
    found = [read_prediction(f) for f in folders[:2]]
    with pytest.raises(UserError, match="margin"):
        compare(found, margin=1.5)
    with pytest.raises(UserError, match="replicates"):
        compare(found, replicates=5)


def test_keys_of_the_json(folders: list[Path]) -> None:
    """Scripts read them; systems without references or figures of speed lack theirs."""
    a, b = (read_prediction(f) for f in folders[:2])
    result = compare([a, b], replicates=100).to_json()
    (pair,) = result["pairs"]
    assert list(result) == ["systems", "pairs", "margin", "replicates", "warnings"]
    assert list(result["systems"][0]) == (
        "name decoder utterances wer cer speed masked_share passes steps failed confidence".split()
    )
    assert list(pair) == (
        "baseline other by_utterance by_speaker cer_by_utterance cer_by_speaker mapsswe verdict verdict_by_speaker "
        "differences changes speed_ratio search_time_ratio".split()
    )
    bare = [
        replace(p, metrics=replace(p.metrics, speed=None), records=[replace(r, ref=None) for r in p.records])
        for p in (a, b)
    ]
    result = compare(bare, replicates=100).to_json()
    assert not {"wer", "cer", "speed", "confidence"} & set(result["systems"][0])
    assert list(result["pairs"][0]) == ["baseline", "other", "differences", "changes"]


def test_confidences_of_the_systems(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """The report's numbers, and a table of them."""
    found = [read_prediction(f) for f in folders]
    drawn = {row.name: row for row in reliability(found)}
    for system in compare(found, replicates=100).to_json()["systems"]:
        row = drawn[system["name"]]
        for name in ("nce", "auc_roc", "auc_pr", "ece"):
            assert system["confidence"].get(name) == getattr(row, name)
    assert main(["compare", *map(str, folders), "--replicates", "100"]) == 0
    assert "AUC PR" in capsys.readouterr().out


def test_search_time_is_per_second_of_audio(folders: list[Path], tmp_path: Path) -> None:
    """A sample and a whole set have other totals; the old key stays beside the new one."""
    out = tmp_path / "c.json"
    assert main(["compare", *map(str, folders[:2]), "--json", str(out), "--replicates", "100"]) == 0
    for system, folder in zip(json.loads(out.read_text())["systems"], folders, strict=False):
        speed = json.loads((folder / "metrics.json").read_text())["speed"]
        assert system["speed"]["search_seconds"] == speed["search_seconds"]
        share = speed["search_seconds"] / speed["audio_seconds"]
        assert system["speed"]["search_seconds_per_audio_second"] == pytest.approx(share)
        found = compare([read_prediction(f) for f in folders[:2]], replicates=100)
        assert f"| {share:.3g} |" in markdown(found)


def test_names_are_text(folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup of Markdown or of the console, and control characters, in the names of folders and in texts."""
    hostile = tmp_path / "a|b [x]\x1b[2J"
    shutil.copytree(folders[1], hostile)
    records = lines(hostile)
    for r in records:
        r["text"] += " [/bold] \x1b[31m"
    (hostile / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert main(["compare", str(folders[0]), str(hostile), "--replicates", "100"]) == 0
    shown = capsys.readouterr().out
    assert chr(27) not in shown
    assert "[x]" in shown and r"\x1b[31m" in shown
    assert main(["compare", str(folders[0]), str(hostile), "--replicates", "100", "--markdown", "true"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert len(re.findall(r"(?<!\\)\|", row)) == 10 and r"a\|b \[x\]" in row


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--show", "-1"], "show is -1"),
        (["--margin", "2"], "the margin is 2"),
        (["--margin", "nan"], "margin"),
        (["--replicates", "5"], "replicates is 5"),
        (["--replicates", "1000000000"], "replicates is 1000000000"),
        (["--json", "/nowhere/c.json"], "in a folder that exists"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(tmp_path / "absent"), str(tmp_path / "other"), *options]) == 2
    assert message in capsys.readouterr().err


def test_no_folder_and_a_folder_twice(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare"]) == 2
    assert "compare got no folder" in capsys.readouterr().err
    assert main(["compare", str(folders[0]), f"{folders[0]}/"]) == 2
    assert "named twice" in capsys.readouterr().err
