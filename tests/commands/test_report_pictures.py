"""Waveforms with their masks, and the points of speed and accuracy, as data and in a browser at two widths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parlab.commands.report import browser, write_report
from parlab.commands.report.audio import AudioLinks
from parlab.commands.report.drafts import read_drafts
from parlab.commands.report.pareto import pareto
from parlab.commands.report.tables import speed_accuracy
from parlab.commands.report.waveform import LEVELS, PARTS, waveform, windows
from parlab.predictions.hypotheses import SegmentRecord, UtteranceRecord
from parlab.predictions.prediction import read_predictions
from tests.browser import CHROMIUM, FRAMED, acting, browse, framed, title_of
from tests.fake_predictions import write_prediction
from tests.helpers import lines

in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


def test_a_waveform_is_the_loudest_sample_of_each_part(tmp_path: Path) -> None:
    samples = np.zeros((4800, 2), dtype=np.float32)
    samples[2400:, 1] = 0.25
    samples[4799] = -0.5
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    found = waveform(str(tmp_path / "a.wav"), 0.3)
    half = LEVELS[round(63 * 0.5)]
    assert found == "A" * (PARTS // 2) + half * (PARTS // 2 - 1) + LEVELS[-1]


def test_what_has_no_waveform(tmp_path: Path) -> None:
    """A part of a longer file, no audio, a file that is gone, fewer samples than parts."""
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "short.wav", np.zeros(PARTS - 1), 16000)
    (tmp_path / "text.wav").write_text("no audio")
    assert waveform(str(tmp_path / "a.wav"), 1.0) == "A" * PARTS  # silence
    assert waveform(str(tmp_path / "a.wav"), 0.5) is None
    assert waveform(str(tmp_path / "short.wav"), 0.01) is None
    assert waveform(str(tmp_path / "text.wav"), 1.0) is None
    assert waveform(str(tmp_path / "absent.wav"), 1.0) is None
    assert waveform("a\0b", 1.0) is None and waveform(None, 1.0) is None and waveform("a.wav", None) is None


def test_a_mask_reaches_from_neighbour_to_neighbour() -> None:
    """Draft a B c D D; B became x y, the two D at the end nothing."""
    record = UtteranceRecord(
        id="u",
        text="",
        token_text=("a", "x", "y", "c"),
        token_times=((0.1, 0.2), (0.3, 0.4), (0.4, 0.5), (0.6, 0.7)),
        segments=(SegmentRecord(1, 2, (7,), (8, 9)), SegmentRecord(3, 5, (4, 5), ())),
        duration=1.5,
    )
    assert list(windows(record)) == [(0.2, 0.6), (0.7, 1.5)]
    untimed = UtteranceRecord(id="u", text="", token_text=("a",), segments=record.segments, duration=1.5)
    assert list(windows(untimed)) == []


def test_as_many_waveforms_as_are_looked_at(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of utterances with masks, a few of them; none on a page without audio."""
    predictions = read_predictions(folders)
    drafts = read_drafts(predictions)
    found, _ = browser.utterances(predictions, drafts, AudioLinks(Path("r.html"), "link"))
    masked = {r.id for p in predictions for r in p.records if r.segments}
    assert len(masked) > 2
    assert {u["id"] for u in found if "v" in u} == masked
    monkeypatch.setattr(browser, "WAVEFORMS", 2)
    found, _ = browser.utterances(predictions, drafts, AudioLinks(Path("r.html"), "link"))
    assert ["v" in u for u in found if u["id"] in masked] == [True, True] + [False] * (len(masked) - 2)
    found, _ = browser.utterances(predictions, drafts, AudioLinks(Path("r.html"), "off"))
    assert not any("v" in u for u in found)


@pytest.fixture
def spoken(tmp_path: Path) -> list[Path]:
    """Greedy and PAR of utterances that have audio, with the times of their tokens."""
    made = [write_prediction(tmp_path / name, name, 20, 0.97) for name in ("greedy", "par")]
    for folder in made:
        records = lines(folder)
        for r in records:
            samples = round(16000 * r["duration"])
            r["audio"] = str(tmp_path / f"{r['id']}.wav")
            soundfile.write(r["audio"], 0.1 * np.sin(np.arange(samples) / 20), 16000)
            step = r["duration"] / len(r["tokens"])
            r["token_times"] = [[round(i * step, 3), round((i + 0.7) * step, 3)] for i in range(len(r["tokens"]))]
        (folder / "hypotheses.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return made


@in_a_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_masks_are_marked_on_the_waveform(width: int, spoken: list[Path], tmp_path: Path) -> None:
    """A hatched part and a button for each segment, where it is spoken; a button is reached by the keyboard and plays its part."""
    page = write_report(spoken, tmp_path / "report.html")
    act = """pick.value = data.predictions.findIndex(p => p.decoder === "par"); draw();
        const box = [...document.querySelectorAll(".utterance")].find(e => e.querySelectorAll(".mask").length > 1);
        const stage = box.querySelector(".stage").getBoundingClientRect(), audio = box.querySelector("audio");
        const buttons = [...box.querySelectorAll(".mask")], marks = [...box.querySelectorAll(".mark")];
        buttons[1].focus(); buttons[1].click();
        document.title = JSON.stringify({
            id: box.querySelector("header span").textContent, masks: document.querySelectorAll(".mask").length,
            places: marks.map(e => { const r = e.getBoundingClientRect(); return [(r.left - stage.left) / stage.width, r.width / stage.width]; }),
            lit: marks.map(e => e.classList.contains("lit")), focused: document.activeElement === buttons[1],
            names: buttons.map(e => e.getAttribute("aria-label")), at: audio.currentTime, stage: stage.width,
            hatched: getComputedStyle(marks[0]).backgroundImage.startsWith("repeating-linear-gradient") });"""
    document, log = browse(framed(acting(page, act), width), tmp_path, *FRAMED)
    assert "CONSOLE" not in log, log[-2000:]
    found = json.loads(title_of(document))
    (par,) = read_predictions([spoken[1]])
    assert found["masks"] == sum(len(r.segments) for r in par.records)
    (record,) = [r for r in par.records if r.id == found["id"]]
    assert record.duration is not None
    spans = list(windows(record))
    for (start, end), (left, wide) in zip(spans, found["places"], strict=True):
        assert left == pytest.approx(start / record.duration, abs=0.01)
        assert wide == pytest.approx(max((end - start) / record.duration, 4 / found["stage"]), abs=0.01)
    assert found["focused"] and found["hatched"] and found["lit"] == [i == 1 for i in range(len(spans))]
    assert found["at"] == pytest.approx(max(0, spans[1][0] - 0.3), abs=0.02)
    assert found["names"][1].startswith(f"mask 2, {spans[1][0]:.2f} to {spans[1][1]:.2f} seconds, draft ")


@pytest.fixture
def fifty(tmp_path: Path) -> list[Path]:
    """A sweep: greedy, AR, and PAR with twelve thresholds and four beams, each with a speed of its own."""
    made = [write_prediction(tmp_path / name, name, 30) for name in ("greedy", "ar")]
    for i in range(48):
        folder = write_prediction(tmp_path / f"par{i}", "par", 30, 0.3 + 0.058 * (i // 4))
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["decoder"]["options"]["beam_size"] = (1, 2, 5, 10)[i % 4]
        metrics["speed"]["rtfx"] = 10.0 + i
        (folder / "metrics.json").write_text(json.dumps(metrics))
        made.append(folder)
    return made


def test_points_carry_what_sets_them_apart(fifty: list[Path]) -> None:
    predictions = read_predictions(fifty)
    rows = speed_accuracy(predictions)
    found = pareto(predictions, [dict(vars(row)) for row in rows])
    assert len(found["points"]) == 50
    assert found["by"] == ["decoder", "beam_size"]  # twelve thresholds are more than can be told apart
    assert found["points"][2]["set"] == {"decoder": "par", "threshold": "0.3", "beam_size": "1"}
    assert [p["front"] for p in found["points"]] == [row.front for row in rows]


@in_a_browser
@pytest.mark.parametrize("width", [390, 1440])
def test_fifty_points_can_be_read(width: int, fifty: list[Path], tmp_path: Path) -> None:
    """All points are inside the picture; arrow keys walk through them in the order of speed; a group can be hidden; one tab stop."""
    page = write_report(fifty, tmp_path / "report.html")
    act = """const root = () => document.querySelector("#points svg"), text = () => by("point").textContent;
        const press = key => { root().dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); return text(); };
        const frame = root().getBoundingClientRect(), found = { count: document.querySelectorAll("#points > svg > .point").length };
        found.inside = [...document.querySelectorAll("#points .point")].every(e => { const r = e.getBoundingClientRect();
            return r.left >= frame.left && r.right <= frame.right && r.top >= frame.top && r.bottom <= frame.bottom; });
        found.wide = document.documentElement.scrollWidth;
        root().focus();
        found.walked = [press("Home"), press("ArrowRight"), press("ArrowLeft"), press("End")];
        found.stops = document.querySelectorAll("#points [tabindex='0']").length;
        press("Home"); press("Enter");
        found.chosen = data.predictions[Number(pick.value)].prediction;
        by("by").value = "beam_size"; by("by").dispatchEvent(new Event("change"));
        found.groups = [...document.querySelectorAll("#groups button")].map(e => e.textContent);
        document.querySelector("#groups button").click();
        found.left = document.querySelectorAll("#points > svg > .point").length;
        const last = document.querySelectorAll("#points > svg > .point")[0].getBoundingClientRect();
        root().dispatchEvent(new PointerEvent("pointermove", { clientX: last.left + last.width / 2, clientY: last.top + last.height / 2 }));
        found.pointed = text();
        document.title = JSON.stringify(found);"""
    document, log = browse(framed(acting(page, act), width), tmp_path, *FRAMED)
    assert "CONSOLE" not in log, log[-2000:]
    found = json.loads(title_of(document))
    assert (found["count"], found["inside"], found["stops"]) == (50, True, 1)
    assert found["wide"] <= width
    rows = sorted(speed_accuracy(read_predictions(fifty)), key=lambda row: row.rtfx)
    for row, shown in zip([rows[0], rows[1], rows[0], rows[-1]], found["walked"], strict=True):
        assert shown.startswith(f"{row.name}: WER {100 * row.wer:.2f} % (95 % interval ")
        assert (", beaten by none in both" in shown) == row.front
    assert found["chosen"] == rows[0].name
    assert found["groups"] == ["beam_size 1", "beam_size 2", "beam_size 5", "beam_size 10", "beam_size none"]
    assert found["left"] == 50 - 12
    assert "beam_size 1." not in found["pointed"] and "RTFx" in found["pointed"]


@in_a_browser
def test_two_predictions_side_by_side(fifty: list[Path], tmp_path: Path) -> None:
    """Any prediction beside any other, and words that differ from the chosen one on a colour of their own."""
    some = [*fifty[:2], *fifty[-2:]]
    page = write_report(some, tmp_path / "report.html")
    act = """pick.value = 2; beside.value = "0"; beside.dispatchEvent(new Event("change"));
        const first = list.querySelector("article");
        document.title = JSON.stringify({ names: [...first.querySelectorAll(".line > b")].map(e => e.textContent),
            differ: list.querySelectorAll(".words .other").length });"""
    document, log = browse(acting(page, act), tmp_path)
    assert "CONSOLE" not in log, log[-2000:]
    found = json.loads(title_of(document))
    assert found["names"][:3] == ["reference", "greedy", "par46"]
    greedy, _, par, _ = read_predictions(some)
    texts = {r.id: r.text.split() for r in greedy.records}
    differ = sum(a != b for r in par.records for a, b in zip(r.text.split(), texts[r.id], strict=True))
    assert found["differ"] == differ > 0
