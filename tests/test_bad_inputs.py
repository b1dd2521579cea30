"""A part of the list of bad inputs; ``python -m tests.bad_inputs`` runs all of it, and so does CI."""

from __future__ import annotations

from pathlib import Path

from tests.bad_inputs.__main__ import CASES, run
from tests.bad_inputs.case import table


def test_the_list_is_long_and_names_are_unique() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_sixth_bad_input(tmp_path: Path) -> None:
    """One clear sentence each: no traceback, and no success where an error was due."""
    outcomes = run(CASES[::6], tmp_path)
    assert [o for o in outcomes if o.kind != "ok"] == [], table(outcomes)
