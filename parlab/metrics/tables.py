"""Tables of results: rows of named cells, written as CSV; text that shows what it holds and does nothing else."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

Cell = None | bool | int | float | str
Table = list[dict[str, Cell]]

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, marks of direction, lone surrogates, ends of lines
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"[\\`*\[\]<>&|~]")


def visible(text: str) -> str:
    """``text`` with control characters as escapes (``\\x1b``): a foreign name cannot move the cursor or end a line."""
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _HIDDEN else c for c in text)


def markdown_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table; what would be markup in a cell is escaped."""
    escaped = [_MARKDOWN.sub(lambda m: "\\" + m[0], visible(cell)) for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _csv_cell(value: Cell) -> Cell:
    """Numbers as they are; a text that a spreadsheet would compute gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if value.startswith(_FORMULA) else shown


def write_csv(path: Path, table: Table) -> None:
    """Write a table; the columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([_csv_cell(name) for name in columns])
        writer.writerows([_csv_cell(row.get(name)) for name in columns] for row in table)
