"""One bad input, and what becomes of it."""

from __future__ import annotations

import contextlib
import io
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parlab.cli import main
from parlab.errors import UserError

Make = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        name: what is wrong.
        argv: the command line; ``{}`` stands for the working folder.
        make: prepares files in the working folder first, or (without ``argv``) calls the Python API.
        status: expected exit status: 2 for bad input, 1 where other files are decoded all the same.
        message: what the message has to say.
    """

    name: str
    argv: tuple[str, ...] = ()
    make: Make | None = None
    status: int = 2
    message: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a case ended with: ``kind`` is "ok", "traceback", "silent" (no error where one was due) or "unclear"."""

    case: Case
    kind: str
    status: int | None
    message: str


def run_case(case: Case, folder: Path) -> Outcome:
    """Run a case in a folder that holds the model ``m``, the data ``d``, and the predictions ``p`` and ``q``."""
    out, err = io.StringIO(), io.StringIO()
    status: int | None = None
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if case.make is not None:
                case.make(folder)
            if case.argv:
                status = main([argument.replace("{}", str(folder)) for argument in case.argv])
    except UserError as error:
        status, message = 2, str(error)
        return _judge(case, status, message)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 2
    except BaseException:
        return Outcome(case, "traceback", None, traceback.format_exc().strip().splitlines()[-1])
    finally:
        os.chdir(before)
    return _judge(case, status, err.getvalue())


def _judge(case: Case, status: int | None, text: str) -> Outcome:
    lines = [line for line in text.splitlines() if line.strip()]
    shown = next((line for line in lines if case.message in line), lines[0] if lines else "")
    if "Traceback" in text:
        return Outcome(case, "traceback", status, shown)
    if status in (0, None):
        return Outcome(case, "silent", status, shown)
    if status != case.status or case.message not in text:
        return Outcome(case, "unclear", status, shown)
    return Outcome(case, "ok", status, shown)


def table(outcomes: Sequence[Outcome]) -> str:
    """A line per case, then the counts."""
    lines = [f"{o.kind:9} {o.status!s:4} {o.case.name:55.55} {o.message[:150]}" for o in outcomes]
    counts = {kind: sum(o.kind == kind for o in outcomes) for kind in ("ok", "traceback", "silent", "unclear")}
    return "\n".join([*lines, f"{len(outcomes)} bad inputs: {', '.join(f'{n} {kind}' for kind, n in counts.items())}"])
