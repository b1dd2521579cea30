"""Tables of results: rows of named cells, written as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

Cell = None | bool | int | float | str
Table = list[dict[str, Cell]]


def write_csv(path: Path, table: Table) -> None:
    """Write a table; the columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)
