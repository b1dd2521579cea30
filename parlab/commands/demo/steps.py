"""The demo's commands: those that a user types, each in a process of its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text


class Stopped(Exception):
    """A command ended with another exit status than 0."""

    def __init__(self, status: int):
        super().__init__(f"a command ended with status {status}")
        self.status = status


def run_command(console: Console, *arguments: str | Path) -> None:
    """Print ``python -m parlab ARGUMENTS`` and run it on this terminal.

    Raises:
        Stopped: it failed, or a signal ended it; Ctrl-C and SIGTERM reach it, and it ends in order.
    """
    words = [str(argument) for argument in arguments]
    line = shlex.join(["python", "-m", "parlab", *map(_shortened, words)])
    console.print(Text.assemble(("$ ", "dim"), line), soft_wrap=True)
    if status := _wait([sys.executable, "-m", "parlab", *words]):
        raise Stopped(status)


def _shortened(word: str) -> str:
    """A path below the working folder, relative to it."""
    folder = os.getcwd() + os.sep
    return word.removeprefix(folder)


def _wait(command: Sequence[str]) -> int:
    """The exit status of a command: 128 + the number of the signal that ended it."""
    with subprocess.Popen(command) as child:

        def forward(signum: int, frame: FrameType | None) -> None:
            child.send_signal(signum)

        before = signal.signal(signal.SIGTERM, forward)
        try:
            while True:
                try:
                    status = child.wait()
                    break
                except KeyboardInterrupt:  # the terminal sent it to the child too
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)
    return status if status >= 0 else 128 - status
