"""SIGTERM, as a cluster sends it before it kills: the work in hand is finished, then the command ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from parlab.errors import Terminated


class StopRequest:
    """Remembers that SIGTERM came; a second one ends the command at once."""

    def __init__(self) -> None:
        self.received = False
        self._before: Any = None

    def install(self) -> None:
        """Take the signal over, from whoever has it."""
        self._before = signal.signal(signal.SIGTERM, self._receive)

    def restore(self) -> None:
        """Give the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if self.received:
            raise Terminated
        self.received = True

    def check(self) -> None:
        """End the command if the signal came. Called where all that was computed is on the disk.

        Raises:
            Terminated: it came.
        """
        if self.received:
            raise Terminated


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """A ``StopRequest`` for a block."""
    request = StopRequest()
    request.install()
    try:
        yield request
    finally:
        request.restore()
