"""The files of a suite: written whole after every case, so that nothing is lost when time runs out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.output import machine
from parlab.commands.bench.suite.plan import Fields
from parlab.metrics.tables import Cell, Table, markdown_row, write_csv
from parlab.predictions.files import Json, write_json
from parlab.predictions.provenance import versions


class Results:
    """Rows of a suite; ``suite.json`` has them with machine, versions and options, ``suite.csv`` and ``suite.md`` as tables."""

    def __init__(self, folder: Path, options: BenchOptions, device: torch.device):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.rows: Table = []
        self.head: dict[str, Json] = {"options": asdict(options), "machine": machine(device), "versions": versions()}

    @property
    def failed(self) -> int:
        """Number of cases that ended with an error."""
        return sum("error" in row for row in self.rows)

    def add(self, row: Fields) -> None:
        """Show and write a row."""
        self.rows.append(dict(row))
        print(" | ".join(f"{name} {shown(value)}" for name, value in row.items()), flush=True)
        rows: Json = self.rows
        write_json(self.folder / "suite.json", {**self.head, "rows": rows})
        write_csv(self.folder / "suite.csv", self.rows)
        (self.folder / "suite.md").write_text(self.markdown(), encoding="utf-8")

    def markdown(self) -> str:
        """A table for each part, with the columns that its rows have."""
        lines = [f"# {self.head['machine']['device']}"]  # type: ignore[call-overload, index]
        for part in dict.fromkeys(row["part"] for row in self.rows):
            rows = [row for row in self.rows if row["part"] == part]
            columns = list(dict.fromkeys(name for row in rows for name in row if name != "part"))
            lines += ["", f"## {part}", "", markdown_row(columns), markdown_row(["---"] * len(columns))]
            lines += [markdown_row([shown(row.get(name)) for name in columns]) for row in rows]
        return "\n".join(lines) + "\n"


def shown(value: Cell) -> str:
    """A cell as text: four digits of a number."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
