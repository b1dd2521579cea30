"""``report`` on predictions of a tiny model, and the tables behind it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from parlab.cli import main
from parlab.commands.report import write_report
from parlab.commands.report.drafts import draft_of, token_errors
from parlab.commands.report.tables import speed_accuracy
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.hypotheses import SegmentRecord, UtteranceRecord
from parlab.predictions.metrics import Metrics, Named, Speed
from parlab.predictions.prediction import Prediction

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_pareto_front() -> None:
    def prediction(name: str, errors: int, rtfx: float) -> Prediction:
        wer = ErrorCounts(substitutions=errors, total=100)
        return Prediction(Path(name), Metrics(Named(name), wer=wer, speed=Speed(rtfx=rtfx)), [], name)

    rows = speed_accuracy(
        [prediction("a", 10, 5.0), prediction("b", 20, 9.0), prediction("c", 20, 4.0), prediction("d", 5, 1.0)]
    )
    assert [row.name for row in rows if row.front] == ["a", "b", "d"]


def test_wrong_words_mark_their_tokens() -> None:
    pieces = ["\u2581GO", "O", "D", "\u2581DA", "Y", "\u2581NOW"]
    assert token_errors(pieces, "GOOD NIGHT NOW") == [False, False, False, True, True, False]
    assert token_errors(["a", "b", "<space>", "c"], "ab d") == [False, False, False, True]
    assert token_errors(["A", "B"], "a c", str.lower, words_are_tokens=True) == [False, True]


def test_draft_is_rebuilt_from_the_segments() -> None:
    """Kept tokens and what each segment replaced, in order, are the draft."""
    record = UtteranceRecord(
        id="u",
        text="",
        token_text=("a", "x", "y", "c"),
        token_confidence=(0.9, 0.5, 0.5, 0.8),
        segments=(
            SegmentRecord(start=1, end=2, draft=(7,), draft_text=("b",), fill=(8, 9)),
            SegmentRecord(start=3, end=5, draft=(4, 5), draft_text=("d", "e"), fill=()),
        ),
    )
    draft = draft_of(record, "par")
    assert draft is not None
    assert draft.text == ("a", "b", "c", "d", "e")
    assert draft.masked == (False, True, False, True, True)
    assert draft.confidence == (0.9, None, 0.8, None, None)
    assert draft_of(record, "ar") is None


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
    assert masked and all(0 <= confidence < 0.999 for _, confidence, _ in masked)  # known from the greedy prediction
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
