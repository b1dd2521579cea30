"""W&B: which mode a run gets, fills in the table, a server that does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parlab.errors import UserError
from parlab.metrics.tables import Table
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.hypotheses import SegmentRecord, UtteranceRecord
from parlab.predictions.metrics import DeviceShare, Metrics, Named, ParCounts, Speed
from parlab.text.normalizer import normalizer
from parlab.tracking import runs as tracking
from parlab.tracking.runs import (
    RunOptions,
    SweptPoint,
    flatten,
    log_prediction,
    log_report,
    log_sweep,
    marked_text,
    resolve_mode,
)

RECORD = UtteranceRecord(
    id="u1", ref="a cab", text="a cad", token_text=("a", "<space>", "c", "a", "d"), segments=(), seconds=0.1
)
METRICS = Metrics(
    decoder=Named("par", {"threshold": 0.9}),
    wer=ErrorCounts(substitutions=1, total=2),
    speed=Speed(rtfx=12.0, device="cpu", devices=(DeviceShare(0, 1, 1.0, 0.1),)),
    par=ParCounts(masked_tokens=3),
    counts={"decoder_steps": 4},
    utterances=1,
    config={"seed": 0},
)


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)


def test_modes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resolve_mode("auto") == "offline"
    assert [resolve_mode(mode) for mode in ("online", "offline", "off")] == ["online", "offline", "off"]
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")  # said explicitly: nothing is uploaded though there is a key
    assert resolve_mode("auto") == "offline"
    assert resolve_mode("online") == "online"  # the option is more explicit still
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert {resolve_mode(mode) for mode in ("auto", "online", "offline")} == {"off"}
    with pytest.raises(UserError, match="did you mean 'offline'"):
        resolve_mode("ofline")


def test_a_key_in_netrc_is_a_key(tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'x' * 40}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert resolve_mode("auto") == "online"


def test_fills_are_marked() -> None:
    """Segments count draft tokens; the first fill is longer than its draft, the second is empty."""
    segments = (
        SegmentRecord(start=1, end=2, draft=(9,), fill=(2, 3), draft_text=("x",), fill_text=("b", "c")),
        SegmentRecord(start=4, end=5, draft=(8,), fill=(), draft_text=("y",), fill_text=()),
    )
    record = UtteranceRecord("u", "", token_text=("a", "b", "c", "<space>", "d"), segments=segments)
    assert marked_text(record) == "a [x -> bc]  d [y -> ]"
    assert marked_text(UtteranceRecord("u", "", token_text=("\u2581he", "llo", "\u2581you"))) == "hello you"


def test_numbers_are_flattened() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": "x"}}, "e": [1], "f": None}) == {"a/b": 1, "a/c/d": "x"}


def test_an_offline_run_is_complete_when_it_is_over(
    tmp_path: Path, wandb_records: Callable[[Path], list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    """W&B's own ``finish`` may return before its service has written anything: five runs, none cut short."""
    for i in range(5):
        out = tmp_path / str(i)
        out.mkdir()
        log_prediction(RunOptions("offline", "parlab", out), METRICS, [RECORD], normalizer("none"))
        (path,) = out.glob("wandb/offline-run-*/*.wandb")
        records = wandb_records(path)
        assert any(record.WhichOneof("record_type") == "exit" for record in records)
        found = {item.key: item.value_json for record in records for item in record.summary.update if item.key}
        assert found["wer/rate"] == "0.5"
        assert found["par/masked_tokens"] == "3"
        assert found["decoded"] == "1"


def logged(folder: Path, read: Callable[[Path], list[Any]]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, summary and tables (columns and rows) of each offline run below a folder, sorted by name."""
    runs = []
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        records = read(path)
        (name,) = {record.run.display_name for record in records if record.WhichOneof("record_type") == "run"}
        items = [item for record in records for item in record.summary.update]
        summary = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
        tables = {}
        for key in (key.removesuffix("/_type") for key, kind in summary.items() if kind == "table-file"):
            table = json.loads((path.parent / "files" / summary[f"{key}/path"]).read_text())
            tables[key] = (table["columns"], table["data"])
        runs.append((name, summary, tables))
    return sorted(runs, key=lambda run: run[0])


def test_a_sweep_is_a_table_or_a_group(tmp_path: Path, wandb_records: Callable[[Path], list[Any]]) -> None:
    better = replace(METRICS, wer=ErrorCounts(total=2), par=ParCounts())
    points = [SweptPoint("a", {"threshold": 0.9}, METRICS), SweptPoint("b", {"beam_size": 4}, better)]
    table, group = (tmp_path / layout for layout in ("table", "group"))
    for out in (table, group):
        out.mkdir()
        log_sweep(RunOptions("offline", "parlab", out), points, out.name)
    ((name, summary, tables),) = logged(table, wandb_records)
    columns, rows = tables["points"]
    assert name == "table"
    assert (summary["points"], summary["best_wer"]) == (2, 0.0)
    assert columns[:3] == ["point", "beam_size", "threshold"]
    assert [row[:3] for row in rows] == [["a", "", "0.9"], ["b", "4", ""]]
    assert [row[columns.index("wer/rate")] for row in rows] == [0.5, 0.0]
    assert [(name, summary["par/masked_tokens"]) for name, summary, _ in logged(group, wandb_records)] == [
        ("a", 3),
        ("b", 0),
    ]
    with pytest.raises(UserError, match="expected 'table' or 'group'"):
        log_sweep(RunOptions("off", "parlab", tmp_path), points, "tabel")


def test_a_report_is_pictures_and_tables(tmp_path: Path, wandb_records: Callable[[Path], list[Any]]) -> None:
    from matplotlib.figure import Figure

    table: Table = [{"name": "a", "wer": 0.1}, {"name": "b", "rtfx": 2.0}]
    log_report(RunOptions("offline", "parlab", tmp_path), {"empty": (Figure(), "nothing")}, {"summary": table})
    ((name, summary, tables),) = logged(tmp_path, wandb_records)
    assert name == f"report-{tmp_path.name}"
    assert summary["pictures/empty/caption"] == "nothing"
    assert tables == {"tables/summary": (["name", "wer", "rtfx"], [["a", 0.1, None], ["b", None, 2.0]])}


def test_off_writes_nothing(tmp_path: Path) -> None:
    log_prediction(RunOptions("off", "parlab", tmp_path), METRICS, [RECORD], normalizer("none"))
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_costs_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import wandb

    def fail(*_: Any, **__: Any) -> None:
        raise wandb.errors.CommError("Run initialization has timed out")

    monkeypatch.setattr(tracking, "start_run", fail)
    log_prediction(RunOptions("online", "parlab", tmp_path), METRICS, [RECORD], normalizer("none"))
    assert "warning: W&B does not answer (Run initialization has timed out" in capsys.readouterr().err


def test_what_a_chart_cannot_divide_is_in_the_summary() -> None:
    """Search time per second of audio, and RTFx with loading, where they were measured."""
    speed = Speed(rtfx=20.0, search_seconds=3.0, audio_seconds=120.0, load_seconds=2.0, wall_seconds=8.0)
    found = tracking._summary(replace(METRICS, speed=speed))
    assert found["speed/search_seconds_per_audio_second"] == 0.025 and found["speed/rtfx_with_loading"] == 15.0
    assert "speed/rtfx_with_loading" not in tracking._summary(METRICS)
