"""Tables as files: what a cell holds is shown, and does nothing."""

from __future__ import annotations

import csv
from pathlib import Path

from parlab.metrics.tables import markdown_row, visible, write_csv


def test_texts_are_no_formulas_and_numbers_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_csv(
        path, [{"a": "=1+1", "b": -1.5, "c": None}, {"a": "-x", "b": 2, "c": "a,b\n\x1b"}, {"a": "@x"}, {"a": "+x"}]
    )
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["a", "b", "c"]
    assert rows[1] == ["'=1+1", "-1.5", ""]
    assert rows[2] == ["'-x", "2", r"a,b\n\x1b"]
    assert [row[0] for row in rows[3:]] == ["'@x", "'+x"]


def test_markdown_and_control_characters() -> None:
    assert markdown_row(["a|b", "\\|", "[x](y)", "<b>", "par_espnet"]) == (
        r"| a\|b | \\\| | \[x\](y) | \<b\> | par_espnet |"
    )
    assert visible("a\x1b\u202e\u2028\n\u00e9 \u4e2d") == r"a\x1b\u202e\u2028\n" + "\u00e9 \u4e2d"
