"""The panels of the W&B workspace: every key that they show is one that a command logs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from parlab.cli import main
from parlab.commands.fit.command import fit
from parlab.tracking.panels import COLUMNS, SECTIONS, Chart, Curves, Panel, Pictures, Points, Rows


@dataclass
class Logged:
    """What the runs below a folder hold: keys of history, of summary and configuration, columns of tables."""

    history: set[str] = field(default_factory=set)
    summary: set[str] = field(default_factory=set)
    tables: dict[str, list[str]] = field(default_factory=dict)

    def lacks(self, panel: Panel) -> set[str]:
        """What the panel names and no run holds."""
        match panel:
            case Curves(_, y, x):
                return {x, *y} - self.history
            case Points(_, x, y):
                return {x, y} - self.summary
            case Chart(_, table, x, y, line):
                return {x, y, *([line] if line else [])} - set(self.tables.get(table, []))
            case Rows(table):
                return {table} - set(self.tables)
            case Pictures(keys):
                return set(keys) - self.history


def leaves(value: Any, prefix: str) -> set[str]:
    """Keys of a nested configuration, as W&B writes them: ``a.b``."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, entry in value.items() for name in leaves(entry, f"{prefix}.{key}")}


def logged(folder: Path, read: Callable[[Path], list[Any]]) -> Logged:
    """Read the offline runs below a folder back."""
    found = Logged()
    paths = list(folder.glob("wandb/offline-run-*/*.wandb"))
    assert paths
    for path in paths:
        for record in read(path):
            for item in (*record.run.config.update, *record.config.update):
                found.summary |= {f"config:{name}" for name in leaves(json.loads(item.value_json), item.key)}
            found.summary |= {item.key or "/".join(item.nested_key) for item in record.summary.update}
            values = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            media = {key.removesuffix("/_type"): kind for key, kind in values.items() if key.endswith("/_type")}
            found.history |= {*values, *media}
            for key in (key for key, kind in media.items() if kind == "table-file"):
                found.tables[key] = json.loads((path.parent / "files" / values[f"{key}/path"]).read_text())["columns"]
    return found


@pytest.fixture
def every(model: Path, data: Path, fit_config: Path, tmp_path: Path, wandb_records: Any) -> dict[str, Logged]:
    """What the runs of each command hold."""
    offline = ["--wandb", "offline"]
    inputs = ["--model", str(model), "--data", str(data)]
    assert fit(["--config", str(fit_config), *offline, "--trainer.log_every_n_steps", "1"]) == 0
    assert main(["predict", *inputs, "--out", str(tmp_path / "greedy"), "--wandb", "off", "--progress", "false"]) == 0
    par = ["--decoder", "par", "--decoder.threshold", "0.999", "--progress", "false"]
    assert main(["predict", *inputs, "--out", str(tmp_path / "predict"), *par, *offline]) == 0
    points = [
        "--decoder.threshold",
        "0.9,0.999",
        "--decoder.max_mask_parallel",
        "1,-1",
        "--timed_utterances",
        "2",
        "--repeats",
        "1",
    ]
    for layout in ("table", "group"):  # the second finds its points done
        assert (
            main(["sweep", *inputs, "--out", str(tmp_path / "sweep"), *points, *offline, "--wandb_layout", layout]) == 0
        )
        (tmp_path / "sweep" / "wandb").rename(tmp_path / layout)
        (tmp_path / f"sweep {layout}").mkdir()
        (tmp_path / layout).rename(tmp_path / f"sweep {layout}" / "wandb")
    folders = [str(tmp_path / name) for name in ("greedy", "predict", "sweep")]
    (tmp_path / "report").mkdir()
    assert main(["report", *folders, "--out", str(tmp_path / "report" / "page.html"), *offline]) == 0
    names = {
        "fit": "run",
        "predict": "predict",
        "sweep": "sweep table",
        "sweep group": "sweep group",
        "report": "report",
    }
    return {source: logged(tmp_path / name, wandb_records) for source, name in names.items()}


@pytest.mark.slow
def test_every_key_is_one_that_the_code_logs(every: dict[str, Logged]) -> None:
    for section in SECTIONS:
        for panel in section.panels:
            assert not every[section.source].lacks(panel), (section.name, panel)
    assert {name.removeprefix("summary:") for name in COLUMNS} <= every["predict"].summary
    # The other way round: a misspelt key of each kind is found.
    wrong = [
        Curves("", ("train/los",)),
        Points("", "speed/rtf x", "wer/rate"),
        Points("", "config:threshold", "wer/rate"),
    ]
    wrong += [Chart("", "tables/threshold", "threshold", "masked"), Rows("points"), Pictures(("pictures/pareto",))]
    source = ["fit", "predict", "predict", "report", "predict", "report"]
    assert all(every[name].lacks(panel) for name, panel in zip(source, wrong, strict=True))


def test_the_panels_of_the_issue_are_there() -> None:
    panels = [panel for section in SECTIONS for panel in section.panels]
    curves = {key for panel in panels if isinstance(panel, Curves) for key in panel.y}
    lines = {"train/loss", "train/ctc", "train/attention", "dev/wer", "train/lr", "train/audio_seconds_per_second"}
    assert lines <= curves
    assert {(p.x, p.y) for p in panels if isinstance(p, Points)} >= {
        ("speed/rtfx", "wer/rate"),
        ("config:decoder.options.threshold", "wer/rate"),
        ("config:decoder.options.max_mask_parallel", "speed/search_seconds_per_audio_second"),
        ("config:threshold", "wer/rate"),
        ("speed/rtfx", "speed/latency_p90"),
    }
    assert {(p.x, p.y) for p in panels if isinstance(p, Chart)} >= {("rtfx", "wer"), ("threshold", "masked_share")}
    assert {p.table for p in panels if isinstance(p, Rows)} == {"utterances", "points", "tables/summary"}
