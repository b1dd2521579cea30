"""The exceptions that a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from parlab.types import Failure, Hypothesis


class UserError(Exception):
    """Bad input, in one sentence: what was got, what was expected, and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name closest to ``name``, or ``""``."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


class TranscriptionError(UserError):
    """Some recordings could not be transcribed; the results of the others are not lost.

    Attributes:
        hypotheses: one per recording in input order; None where it failed.
        failures: the recordings that failed, with their reasons.
    """

    def __init__(self, hypotheses: Sequence[Hypothesis | None], failures: Sequence[Failure]):
        first = failures[0]
        reason = first.reason
        if len(hypotheses) > 1:
            reason = f"{len(failures)} of {len(hypotheses)} recordings failed, the first is '{first.id}': {reason}"
        super().__init__(reason)
        self.hypotheses, self.failures = list(hypotheses), list(failures)


class Terminated(Exception):
    """SIGTERM came: what was computed is on the disk, and the command ends."""
