"""Tables of numbers, and their files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

Table = list[dict[str, Any]]
"""Rows of a table, each from column name to text, number or None; rows may lack columns."""


def write_csv(path: Path, table: Table) -> None:
    """Write a table; the columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)
