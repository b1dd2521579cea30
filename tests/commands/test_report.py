"""``report`` on predictions of a tiny model, and the tables behind it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parlab.cli import main
from parlab.commands.report import write_report
from parlab.commands.report.about import about
from parlab.commands.report.audio import AudioLinks
from parlab.commands.report.browser import utterances
from parlab.commands.report.drafts import draft_of, read_drafts
from parlab.commands.report.drawing import annotate_apart, label, new_axes
from parlab.commands.report.drawing import lines as lines_of
from parlab.commands.report.page import filled
from parlab.commands.report.tables import ThresholdPoint, speed_accuracy
from parlab.commands.report.verdict import decide
from parlab.decode import DECODERS
from parlab.metrics.confidence import ConfidenceQuality
from parlab.metrics.significance import compare_errors, errors_and_lengths
from parlab.metrics.token_errors import token_errors
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.confidences import wrong_tokens
from parlab.predictions.hypotheses import SegmentRecord, UtteranceRecord
from parlab.predictions.metrics import Metrics, Named, Speed
from parlab.predictions.prediction import Prediction, read_prediction, read_predictions
from tests.browser import CHROMIUM, FRAMED, acting, browse, framed
from tests.fake_predictions import write_prediction
from tests.helpers import environment, lines, noise


def data_of(page: Path) -> dict[str, Any]:
    """What the page's script draws."""
    found = re.search(r'<script id="data"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return dict(json.loads(found.group(1)))


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
    browsed = data_of(page)
    names = [p["prediction"] for p in browsed["predictions"]]
    assert names == ["greedy", "ar", "par"]
    assert len(browsed["utterances"]) == 8
    rows = [u["p"][names.index("par")] for u in browsed["utterances"]]
    segments = [s for row in rows for s in row.get("s", [])]
    assert segments
    # The confidences of masked tokens are known from the greedy prediction.
    assert all(0 <= c <= 999 for _, _, texts, confidences in segments for _, c in zip(texts, confidences, strict=True))
    assert all((page.parent / u["a"]).is_file() for u in browsed["utterances"])
    with (tmp_path / "report_files" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["prediction"] for row in rows] == ["greedy", "ar", "par"]
    for row, folder in zip(rows, folders, strict=True):
        speed = json.loads((folder / "metrics.json").read_text())["speed"]
        assert float(row["search_seconds"]) == pytest.approx(speed["search_seconds"])
        share = speed["search_seconds"] / speed["audio_seconds"]
        assert float(row["search_seconds_per_audio_second"]) == pytest.approx(share)
    assert "<th>search (s per s of audio)</th>" in text and "<th>search (s)</th>" not in text
    for name in ("wer_rtfx", "phases", "latency", "reliability", "caught"):
        assert (tmp_path / "report_files" / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / "report_files" / f"{name}.csv").is_file()


def test_measures_side_by_side(folders: list[Path], model: Path, data: Path, tmp_path: Path) -> None:
    """Greedy predictions of several measures: calibration, areas and caught errors of each."""
    out = tmp_path / "gibbs"
    arguments = ["--model", str(model), "--data", str(data), "--out", str(out), "--wandb", "off", "--progress", "false"]
    assert main(["predict", *arguments, "--decoder", "greedy", "--decoder.measure", "gibbs"]) == 0
    write_report([folders[0], out], tmp_path / "report.html")
    for name in ("reliability", "caught"):
        with (tmp_path / "report_files" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["name"] for row in rows} == {"greedy", "gibbs"}
    with (tmp_path / "report_files" / "reliability.csv").open() as file:
        quality = {row["name"]: row for row in csv.DictReader(file)}
    prediction = read_prediction(out)
    wrong = [w for r in prediction.scored for w in wrong_tokens(prediction, r, r.token_text)]
    sure = [c for r in prediction.scored for c in r.token_confidence]
    want = ConfidenceQuality.of(np.array(sure), np.array(wrong))
    assert float(quality["gibbs"]["ece"]) == pytest.approx(want.ece)
    assert math.isnan(want.nce) == (quality["gibbs"]["nce"] == "")
    if not math.isnan(want.nce):
        for name in ("nce", "auc_roc", "auc_pr"):
            assert float(quality["gibbs"][name]) == pytest.approx(getattr(want, name))
    assert quality["gibbs"]["ece"] != quality["greedy"]["ece"]


HOSTILE = "@@DATA@@</script><script>document.title='run'</script><!--<script><img src=x onerror=document.title='run'>\u2028 $x$ [/b]"


@pytest.fixture
def hostile(tmp_path: Path) -> list[Path]:
    """Predictions whose every text is markup, a placeholder or a control character."""
    out = []
    for name in ("greedy", "par"):
        folder = write_prediction(tmp_path / f"=1|{name}<img src=x onerror=document.title='run'>", name, 12)
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics |= {"model": "@@DATA@@", "data": HOSTILE, "versions": {HOSTILE: HOSTILE}}
        metrics["decoder"]["options"]["more"] = HOSTILE
        metrics["speed"]["device"] = HOSTILE
        records = lines(folder)
        for r in records:
            r |= {"id": r["id"] + HOSTILE, "text": r["text"] + " " + HOSTILE, "audio": "javascript:alert(1)"}
            r["token_text"][0] = HOSTILE
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
        out.append(folder)
    return out


def test_foreign_predictions_cannot_change_the_page(hostile: list[Path], tmp_path: Path) -> None:
    """Markup is text, a placeholder in a value is text, and the page's policy allows its own script alone."""
    page = write_report(hostile, tmp_path / "report.html", HOSTILE)
    text = page.read_text()
    assert (
        text.count("<script") == 2 and text.count("</script") == 2 and "<!--" not in text and "<img src=x" not in text
    )
    browsed = data_of(page)
    assert browsed["predictions"][0]["model"] == "@@DATA@@"
    assert HOSTILE in browsed["utterances"][0]["id"]
    assert "\u2028" not in text
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL).group(1)  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write|eval", script)


def test_placeholders_are_filled_once() -> None:
    assert filled("@@A@@ @@B@@", {"A": "@@B@@", "B": "@@A@@"}) == "@@B@@ @@A@@"


def test_only_audio_is_embedded_or_linked(tmp_path: Path) -> None:
    """The content decides, not the name; a link is one relative address, whatever the name holds."""
    secret = tmp_path / "secret.wav"
    secret.write_text("password\n" * 1000)
    sound = noise(tmp_path / "a b#c?d%.wav", 0.1)
    for way in ("link", "embed"):
        links = AudioLinks(tmp_path / "report.html", way)
        assert links.source(str(secret)) is None
        assert links.source("https://example.org/a.wav") is None
        assert links.source("a\0b") is None
    assert AudioLinks(tmp_path / "report.html", "link").source(str(sound)) == "a%20b%23c%3Fd%25.wav"
    assert AudioLinks(tmp_path / "report.html", "link").source(str(sound.rename(tmp_path / "x:y.wav"))) == "x%3Ay.wav"
    embedded = AudioLinks(tmp_path / "report.html", "embed").source(str(tmp_path / "x:y.wav"))
    assert embedded is not None and embedded.startswith("data:audio/wav;base64,UklGR")
    assert AudioLinks(tmp_path / "report.html", "off").source(str(tmp_path / "x:y.wav")) is None


def test_the_verdict_says_which_is_best_and_what_it_costs(tmp_path: Path) -> None:
    """PAR has fewer errors than greedy and is faster than AR, which is hardly better; two utterances decide nothing."""
    many = read_predictions([write_prediction(tmp_path / "many" / n, n, 800) for n in ("greedy", "par", "ar")])
    found = decide(many)
    assert found.best is not None
    assert (found.best.name, [p.name for p in (found.greedy, found.par, found.ar) if p]) == (
        "ar",
        ["greedy", "par", "ar"],
    )
    assert found.sentences[0].startswith("ar is best: it has the lowest WER of 3 predictions on 800 utterances. WER ")
    change = compare_errors(*(errors_and_lengths(p.word_counts)[0] for p in (many[0], many[2])),
                              errors_and_lengths(many[0].word_counts)[1])  # fmt: skip
    interval = (
        f"{100 * change.difference:+.2f} points (95 % interval {100 * change.low:+.2f} to {100 * change.high:+.2f})"
    )
    assert f"Against greedy (greedy): WER {interval}, 0." in found.sentences[1]
    assert "This set decides: it is better." in found.sentences[1]
    same = replace(many[1], name="fast", metrics=replace(many[1].metrics, speed=Speed(rtfx=1e6)))
    fast = decide([*many[:2], same])
    assert fast.best is same and "batch sizes" in fast.sentences[1]
    few = decide(read_predictions([write_prediction(tmp_path / "few" / n, n, 2) for n in ("greedy", "ar")]))
    assert any("does not decide" in sentence or "not whether" in sentence for sentence in few.sentences)
    bare = [replace(p, records=[replace(r, ref=None) for r in p.records]) for p in many]
    assert "nothing says which" in decide(bare).sentences[0]


def test_headers_and_thresholds(tmp_path: Path) -> None:
    """A header per prediction with the options that set it apart; a slider where a line has several thresholds."""
    folders = [write_prediction(tmp_path / f"par{t}", "par", 20, t) for t in (0.5, 0.9, 0.99)]
    browsed = data_of(write_report(folders, tmp_path / "report.html"))
    (line,) = browsed["thresholds"]
    assert [point[0] for point in line["points"]] == [0.5, 0.9, 0.99]
    for point, folder in zip(line["points"], folders, strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert point[1] == metrics["wer"]["rate"] and point[2] > 0
    header = browsed["predictions"][0]
    assert {"decoder", "options", "model", "data", "versions"} <= set(header)
    assert "threshold 0.5" in header["options"] and header["model"] == "a/model" and "torch" in header["versions"]


@pytest.mark.parametrize("name", DECODERS)
def test_only_options_that_are_not_the_default_are_shown(name: str) -> None:
    """Those of a value of their own, whatever its type; the defaults are read from the source."""
    options = json.loads(json.dumps(asdict(DECODERS[name]())))  # type: ignore[call-overload]

    def shown(more: dict[str, Any]) -> str:
        metrics = Metrics(Named(name, {**options, **more}))
        return about([Prediction(Path("p"), metrics, [], "p")])[0]["options"]

    assert shown({}) == "defaults"
    assert shown({"unknown": 3}) == "unknown 3"
    for option, value in options.items():
        other = not value if isinstance(value, bool) else "other" if value is None or isinstance(value, str) else 77
        assert shown({option: other}) == f"{option} {json.dumps(other) if other != 'other' else other}"


def test_report_needs_no_torch() -> None:
    """It takes seconds to import."""
    code = "import sys, parlab.commands.report.command, parlab.commands.compare; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_telling_utterances_come_first_and_the_page_is_bounded(tmp_path: Path) -> None:
    predictions = read_predictions([write_prediction(tmp_path / n, n, 400) for n in ("greedy", "par")])
    drafts = read_drafts(predictions)
    links = AudioLinks(tmp_path / "report.html", "off")
    everything, note = utterances(predictions, drafts, links)
    assert len(everything) == 400 and note == "All 400 utterances."
    right = [all(row["e"] == 0 for row in u["p"]) for u in everything]
    assert right == sorted(right)  # those with errors first
    some, note = utterances(predictions, drafts, links, 50_000)
    assert len(json.dumps(some)) < 60_000
    assert re.match(rf"{len(some)} of 400 utterances: \d+ of the \d+ that differ or have errors", note)
    assert any(all(row["e"] == 0 for row in u["p"]) for u in some)  # the sample


def test_edits_give_back_both_texts(folders: list[Path], tmp_path: Path) -> None:
    browsed = data_of(write_report(folders, tmp_path / "report.html"))
    for i, prediction in enumerate(read_predictions(folders)):
        texts = {r.id: prediction.normalized(r.text).split() for r in prediction.records}
        for u in browsed["utterances"]:
            said, before = list(u["w"]), [[] for _ in range(len(u["w"]) + 1)]
            for index, word, *inserted in u["p"][i]["x"]:
                if inserted:
                    before[index].append(word)
                else:
                    said[index] = word
            words = [w for gap, word in zip(before, [*said, ""], strict=True) for w in (*gap, word) if w]
            assert words == texts[u["id"]]


def test_pictures_have_few_lines_in_order() -> None:
    """Eight lines that can be told apart, those of the lowest cost, with numbers in order; names are drawn literally."""
    points = [ThresholdPoint("p", f"beam {n}", 0.5, n / 100, 0.1) for n in range(12, 0, -1)]
    found = lines_of(points, lambda p: p.setting, lambda p: p.wer)
    assert [name for _, name, _ in found] == [f"beam {n}" for n in range(1, 9)]
    assert len({style for style, _, _ in found}) == 8
    assert label("$x$") == r"\$x\$" and len(label("a" * 99)) <= 32 and "\x1b" not in label("\x1b[2J")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--audio", "lin"], "did you mean 'link'"),
        (["--wandb", "of"], "the W&B mode is 'of'"),
        (["--out", "."], "is a folder"),
        ([], "holds no prediction"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder holds no prediction: that is said last."""
    assert main(["report", str(tmp_path / "absent"), *options]) == 2
    assert message in capsys.readouterr().err


def test_no_folder_and_a_folder_twice(folders: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 2
    assert "report got no folder" in capsys.readouterr().err
    assert main(["report", str(folders[0]), str(folders[0].parent / "." / folders[0].name)]) == 2
    assert "named twice" in capsys.readouterr().err


def test_leaderboard_manifest(folders: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "m.jsonl"
    page = tmp_path / "r.html"
    assert main(["report", str(folders[0]), "--out", str(page), "--leaderboard", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert set(rows[0]) == {"audio_filepath", "duration", "time", "text", "pred_text"}
    assert len(rows) == 8


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_report_in_a_browser(folders: list[Path], tmp_path: Path) -> None:
    """The script runs without a console error and draws every utterance, the three decoders beside each other."""
    page = write_report(folders, tmp_path / "report.html")
    document, log = browse(page, tmp_path)
    assert "CONSOLE" not in log, log[-2000:]
    assert document.count('<article class="utterance">') == 8
    assert "8 utterances" in document
    assert document.count("<figure>") >= 4
    assert all(document.count(f"<b>{name}</b>") == 8 for name in ("reference", "greedy", "par", "ar"))
    best = decide(read_predictions(folders)).best
    assert best is not None and f"<dd>{best.name}</dd>" in document


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_slider_starts_at_the_lowest_wer(tmp_path: Path) -> None:
    """AR is best here, and it is on no line of thresholds."""
    made = [write_prediction(tmp_path / "ar", "ar", 60)]
    made += [write_prediction(tmp_path / f"par{t}", "par", 60, t) for t in (0.5, 0.9, 0.99)]
    best = decide(read_predictions(made)).best
    assert best is not None and best.decoder == "ar"
    document, log = browse(write_report(made, tmp_path / "report.html"), tmp_path)
    assert "CONSOLE" not in log, log[-2000:]
    assert 'id="at" class="figures">threshold 0.99: WER' in document


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_tables_are_sorted_by_their_heads(tmp_path: Path) -> None:
    """Numbers as numbers, a second click the other way round, empty cells last; heads and wide tables are reached by the keyboard."""
    made = [write_prediction(tmp_path / name, name, 40) for name in ("greedy", "par", "ar")]
    page = write_report(made, tmp_path / "report.html")
    act = """const table = document.querySelector(".wide table");
        const column = name => [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === name);
        const press = name => { const at = column(name), button = table.tHead.rows[0].cells[at].querySelector("button");
            button.focus(); if (document.activeElement !== button) throw "no focus"; button.click();
            return [...table.tBodies[0].rows].map(row => row.cells[at].textContent).join(" ")
                + " " + table.tHead.rows[0].cells[at].getAttribute("aria-sort"); };
        const found = [press("RTFx"), press("RTFx"), press("WER"), press("draft's WER"), press("prediction")];
        found.push(document.querySelectorAll("[aria-sort]").length, document.querySelectorAll(".wide[tabindex='0']").length);
        document.title = found.join("; ");"""
    document, log = browse(acting(page, act), tmp_path)
    assert "CONSOLE" not in log, log[-2000:]
    title = re.search(r"<title>(.*?)</title>", document)
    assert title is not None
    up, down, wer, draft, name, sorted_by, reached = title[1].split("; ")
    speeds = [float(x) for x in up.split()[:3]]
    assert speeds == sorted(speeds) and up.endswith("ascending")
    assert down.split()[:3] == up.split()[:3][::-1] and down.endswith("descending")
    rates = [float(x.rstrip("%")) for x in wer.split()[:3]]
    assert rates == sorted(rates)
    assert draft.split()[0].endswith("%") and len(draft.split()) == 2  # PAR's; the others have none
    assert name == "ar greedy par ascending"
    assert (sorted_by, reached) == ("1", "2")


def test_texts_beside_points_do_not_overlap() -> None:
    figure, axes = new_axes("x", "y")
    axes.plot([0, 1], [0, 1])
    annotate_apart(figure, axes, [("0.9", 0.5, 0.5), ("0.95", 0.501, 0.501), ("0.99", 0.9, 0.9)])
    assert [text.get_text() for text in axes.texts] == ["0.9", "0.99"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_hostile_predictions_in_a_browser(hostile: list[Path], tmp_path: Path) -> None:
    page = write_report(hostile, tmp_path / "report.html")
    document, log = browse(page, tmp_path)
    assert "CONSOLE" not in log, log[-2000:]
    assert "<title>parlab report</title>" in document
    assert document.count('<article class="utterance">') == 12


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_cut_off(width: int, folders: list[Path], tmp_path: Path) -> None:
    """The page is as wide as its window: what is wider scrolls inside its own box. A frame has the width of a telephone."""
    page = write_report(folders, tmp_path / "report.html")
    measure = """document.title = [innerWidth, document.documentElement.scrollWidth,
        ...[...document.querySelectorAll("dd, figcaption, #verdict p, .utterance *")].map(e => e.scrollWidth - e.clientWidth)
            .filter(more => more > 1)].join(" ")"""
    acting(page, measure)
    document, log = browse(framed(page, width), tmp_path, *FRAMED)
    found = re.search(r"<title>(\d+) (\d+)</title>", document)
    assert found is not None, log[-500:]
    window, wide = map(int, found.groups())
    assert window == width
    assert wide <= width  # less where a scroll bar stands beside it
