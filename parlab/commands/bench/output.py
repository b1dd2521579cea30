"""The files, the picture and the table of a bench."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.rows import Row, table_of
from parlab.metrics.palette import COLORS
from parlab.metrics.tables import write_csv
from parlab.predictions.files import Json, write_json
from parlab.predictions.provenance import device_name, versions

_DRAWN = ("ours: par", "ours: ar joint", "espnet", "ours: greedy", "bare", "whisper")


def save(options: BenchOptions, rows: Sequence[Row], device: torch.device) -> None:
    """Write ``bench.json``, ``bench.csv`` and ``bench.png``."""
    out = Path(options.out)
    table = table_of(rows)
    content: Json = {"options": asdict(options), "machine": machine(device), "versions": versions(), "rows": table}
    write_json(out / "bench.json", content)
    write_csv(out / "bench.csv", table)
    draw(out / "bench.png", rows)


def machine(device: torch.device) -> dict[str, Json]:
    """What the figures were measured on."""
    found: dict[str, Json] = {"device": device_name(device), "platform": platform.platform()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "memory_bytes": properties.total_memory,
            "multiprocessors": properties.multi_processor_count,
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
    return {**found, "threads": torch.get_num_threads()}


def print_table(rows: Sequence[Row]) -> None:
    """Print a line per row."""
    from rich.console import Console
    from rich.table import Table

    searches = any(row.times_par is not None for row in rows)
    title = "search time per utterance, and in multiples of our PAR at batch 1"
    if not searches:
        title = "time per utterance, and in multiples of the baseline (greedy)"
    table = Table(title=title)
    for name in ("audio", "masks", "what", "ms", "x par" if searches else "x"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        ratio = row.ratio if row.times_par is None else row.times_par
        ratio = float("nan") if ratio is None else ratio
        audio = f"{row.seconds_of_audio:.0f} s"
        table.add_row(audio, str(row.masks), row.what, f"{row.ms_per_utterance:.1f}", f"{ratio:.2f}")
    Console().print(table)


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw the search time of the main candidates against the duration."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    names = [name for name in dict.fromkeys(row.what for row in rows) if name.startswith(_DRAWN)]
    for color, name in zip(COLORS * 3, names, strict=False):
        own = [row for row in rows if row.what == name]
        style = "--" if name.startswith("espnet") else ":" if name.startswith("bare") else "-"
        xs, ys = [row.seconds_of_audio for row in own], [row.ms_per_utterance for row in own]
        axes.plot(xs, ys, style, marker="o", ms=4, color=color, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("audio (s)")
    axes.set_ylabel("search time per utterance (ms)")
    axes.grid(alpha=0.25)
    if names:
        axes.legend(frameon=False, fontsize=7)
    figure.savefig(path)
