"""``compare``, ``report``, ``sweep`` and ``rerun`` on predictions of a tiny model."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.commands.compare.command import compare, verdict
from parlab.commands.predict.command import predict
from parlab.commands.report import write_report
from parlab.commands.report.data import speed_accuracy
from parlab.commands.report.drafts import draft_of, token_errors
from parlab.commands.sweep.grid import make_points, split_values
from parlab.decode import AR, PAR, Greedy
from parlab.errors import UserError
from parlab.predictions.loaded import read_prediction, read_sources
from tests.helpers import lines, manifest, noise


@pytest.fixture(scope="module")
def folders(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("predictions")
    for name, decoder in (("greedy", Greedy()), ("ar", AR(beam_size=3)), ("par", PAR(threshold=0.999, beam_size=3))):
        predict(str(model), str(data), decoder, out / name)
    return [out / name for name in ("greedy", "ar", "par")]


def test_comparison_says_what_the_files_say(folders: list[Path]) -> None:
    found = [read_prediction(f) for f in folders]
    result = compare(found, replicates=500)
    for system, prediction in zip(result["systems"], found, strict=True):
        assert system["wer"]["rate"] == prediction.metrics["wer"]["rate"]
        assert system["wer"]["low"] <= system["wer"]["rate"] <= system["wer"]["high"]
    pair = result["pairs"][0]
    gain = found[1].metrics["wer"]["rate"] - found[0].metrics["wer"]["rate"]
    assert pair["by_utterance"]["difference"] == pytest.approx(gain)
    assert "by_speaker" in pair
    assert {d["id"] for d in pair["differences"]} == {
        a["id"] for a, b in zip(lines(folders[0]), lines(folders[1]), strict=True) if a["text"] != b["text"]
    }


def test_verdicts() -> None:
    assert verdict(-0.02, -0.01, 0.005) == "better"
    assert verdict(-0.01, 0.004, 0.005) == "no worse than 0.50%"
    assert verdict(-0.01, 0.02, 0.005).startswith("undecided")
    assert verdict(0.01, 0.02, 0.005) == "worse by more than 0.50%"
    assert verdict(0.001, 0.02, 0.005) == "worse"


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


def test_pareto_front() -> None:
    class Point:
        def __init__(self, name: str, wer: float, rtfx: float):
            self.name, self.decoder, self.scored = name, name, []  # type: ignore[var-annotated]
            self.metrics, self.speed = {"wer": {"rate": wer}}, {"rtfx": rtfx}

    table = speed_accuracy([Point("a", 0.1, 5.0), Point("b", 0.2, 9.0), Point("c", 0.2, 4.0), Point("d", 0.05, 1.0)])  # type: ignore[list-item]
    assert [row["name"] for row in table if row["front"]] == ["a", "b", "d"]


def test_wrong_words_mark_their_tokens() -> None:
    pieces = ["\u2581GO", "O", "D", "\u2581DA", "Y", "\u2581NOW"]
    assert token_errors(pieces, "GOOD NIGHT NOW") == [False, False, False, True, True, False]
    assert token_errors(["a", "b", "<space>", "c"], "ab d") == [False, False, False, True]
    assert token_errors(["A", "B"], "a c", str.lower, words_are_tokens=True) == [False, True]


def test_draft_is_told_by_the_segments() -> None:
    """Kept tokens and what each segment replaced, in order, are the draft."""
    record = {
        "token_text": ["a", "x", "y", "c"],
        "token_confidence": [0.9, 0.5, 0.5, 0.8],
        "segments": [
            {"start": 1, "end": 2, "draft": [7], "draft_text": ["b"], "fill": [8, 9]},
            {"start": 3, "end": 5, "draft": [4, 5], "draft_text": ["d", "e"], "fill": []},
        ],
    }
    draft = draft_of(record, "par")
    assert draft is not None
    assert draft.text == ("a", "b", "c", "d", "e")
    assert draft.masked == (False, True, False, True, True)
    assert draft.confidence == (0.9, None, 0.8, None, None)
    assert draft_of(record, "ar") is None


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


def test_report_is_one_file_with_tables_beside_it(folders: list[Path], tmp_path: Path) -> None:
    page = write_report(folders, tmp_path / "report.html", "a <title>", "link")
    text = page.read_text()
    assert "a &lt;title&gt;" in text
    assert not re.findall(r"(?:src|href)=[\"']https?://", text)
    browsed = json.loads(re.search(r'<script id="data"[^>]*>(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert set(browsed) == {"greedy", "ar", "par"}
    assert len(browsed["par"]) == 8
    assert any(u["s"] for u in browsed["par"])
    masked = [t for u in browsed["par"] for t in u.get("g", []) if t[2]]
    assert masked and all(0 <= confidence < 0.999 for _, confidence, _ in masked)  # told by the greedy prediction
    assert all((page.parent / u["a"]).is_file() for u in browsed["par"])
    with (tmp_path / "report_files" / "summary.csv").open() as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == ["greedy", "ar", "par"]
    for name in ("wer_rtfx", "phases", "latency", "reliability", "caught"):
        assert (tmp_path / "report_files" / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / "report_files" / f"{name}.csv").is_file()


def test_leaderboard_manifest(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    page = tmp_path / "r.html"
    assert main(["report", str(folders[0]), "--out", str(page), "--leaderboard", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(rows[0]) == {"audio_filepath", "duration", "time", "text", "pred_text"}
    assert len(rows) == 8


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_report_in_a_browser(folders: list[Path], tmp_path: Path) -> None:
    """The script runs without a console error and draws every utterance."""
    page = write_report(folders, tmp_path / "report.html")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--v=0",
        "--virtual-time-budget=3000",
    ]
    done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    assert done.stdout.count('<article class="utterance">') == 8
    assert "8 utterances" in done.stdout
    assert done.stdout.count("<figure>") >= 4


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


def test_sweep(model: Path, data: Path, tmp_path: Path) -> None:
    """Each point is what ``predict`` gives with its options; an interrupted sweep goes on."""
    out = tmp_path / "s"
    assert sweep(model, data, out) == 0
    point = out / "points" / "threshold=0.999,beam_size=3"
    alone = predict(str(model), str(data), PAR(threshold=0.999, beam_size=3), tmp_path / "p")
    assert alone is not None
    metrics = json.loads((point / "metrics.json").read_text())
    assert metrics["wer"] == alone["wer"]
    assert [r["tokens"] for r in lines(point)] == [r["tokens"] for r in lines(tmp_path / "p")]
    assert metrics["speed"]["timed_utterances"] == 2
    assert metrics["speed"]["encode_seconds"] > 0  # timed in full, not from cached outputs
    narrow = json.loads((out / "points" / "threshold=0.999,beam_size=1" / "metrics.json").read_text())
    assert 0 < narrow["search_memory_bytes"] < metrics["search_memory_bytes"]
    assert metrics["speed"]["peak_memory_bytes"] > 0
    kept = {p: (p / "metrics.json").stat().st_mtime_ns for p in (out / "points").iterdir()}
    shutil.rmtree(point)
    assert sweep(model, data, out) == 0
    again = {p: (p / "metrics.json").stat().st_mtime_ns for p in (out / "points").iterdir()}
    assert {p for p in kept if again[p] != kept[p]} == {point}
    assert json.loads((point / "metrics.json").read_text())["wer"] == alone["wer"]
    assert len(read_sources([out])) == 4
    write_report([out], tmp_path / "sweep.html")
    assert (tmp_path / "sweep_files" / "threshold.png").is_file()


def test_sweep_beyond_its_memory(model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    """Encoder outputs go to mapped files beyond the bound, with the same result; both full is told."""
    assert sweep(model, data, tmp_path / "a") == 0
    assert sweep(model, data, tmp_path / "b", "--memory_gib", "0") == 0
    name = "threshold=0.999,beam_size=3"
    a, b = (lines(tmp_path / f / "points" / name) for f in "ab")
    assert [r["tokens"] for r in a] == [r["tokens"] for r in b]
    assert not list((tmp_path / "b" / "cache").glob("*.f32"))
    capsys.readouterr()
    assert sweep(model, data, tmp_path / "c", "--memory_gib", "0", "--disk_gib", "0") == 2
    assert "raise memory_gib or disk_gib" in capsys.readouterr().err


def test_rerun_says_whether_the_text_is_the_same(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "p"
    shutil.copytree(folders[2], copy)
    assert main(["rerun", str(copy)]) == 0
    assert "text of all 8 utterances is the same" in capsys.readouterr().out
    assert main(["rerun", str(copy)]) == 2  # the same again would compare old with old
    assert "holds results already" in capsys.readouterr().err
    records = lines(copy)
    records[0]["text"] += " more"
    (copy / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert main(["rerun", str(copy), "--out", str(tmp_path / "again")]) == 1
    assert "differs in 1 of 8" in capsys.readouterr().out


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
