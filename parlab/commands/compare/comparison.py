"""A comparison: all systems, and each one against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parlab.commands.compare.pairs import Pair, Significance
from parlab.commands.compare.systems import System
from parlab.errors import UserError
from parlab.metrics.significance import REPLICATES
from parlab.predictions.comparability import check_comparable
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction
from parlab.predictions.rates import MARGIN, Rate, Resampled, speakers_of, warnings_of_size

_MOST_REPLICATES = 1_000_000  # more take hours, and change no digit that is printed


@dataclass(frozen=True)
class Comparison:
    """Systems on the same data, the first of which is the baseline; ``pairs`` are the others against it.

    Attributes:
        margin: absolute WER that may be lost for the verdict "no worse", a fraction.
        replicates: bootstrap replicates of every interval.
        warnings: what to keep in mind of a small set.
    """

    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    margin: float
    replicates: int
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """The content of the file that ``compare --json`` writes."""
        return {
            "systems": [system.to_json() for system in self.systems],
            "pairs": [pair.to_json() for pair in self.pairs],
            "margin": self.margin,
            "replicates": self.replicates,
            "warnings": list(self.warnings),
        }


def compare(predictions: Sequence[Prediction], margin: float = MARGIN, replicates: int = REPLICATES) -> Comparison:
    """Compare all predictions with the first.

    Args:
        margin: WER that may be lost for the verdict "no worse", absolute, a fraction.

    Raises:
        UserError: they cannot be compared; ``margin`` or ``replicates`` is out of range.
    """
    check_options(margin, replicates)
    check_comparable(predictions)
    first, n = predictions[0], len(predictions)
    rates: list[tuple[Rate | None, Rate | None]] = [(None, None)] * n
    tests: list[Significance | None] = [None] * n
    warnings: tuple[str, ...] = ()
    if first.scored:
        # Words of each prediction, then characters of each: all see the same draws.
        counts = [*(p.word_counts for p in predictions), *(p.char_counts for p in predictions)]
        found = Resampled.of(counts, speakers_of(first), replicates)
        warnings = warnings_of_size(len(first.scored), found.speakers)
        rates = [(found.rate(i), found.rate(n + i)) for i in range(n)]
        changes = [(found.change(0, i), found.change(n, n + i)) for i in range(n)]
        tests = [
            Significance.of(first, p, *change, margin) if i else None
            for i, (p, change) in enumerate(zip(predictions, changes, strict=True))
        ]
    systems = tuple(System.of(p, *own) for p, own in zip(predictions, rates, strict=True))
    pairs = tuple(Pair.of(first, p, test) for p, test in zip(predictions[1:], tests[1:], strict=True))
    return Comparison(systems, pairs, margin, replicates, warnings)


def check_options(margin: float, replicates: int) -> None:
    """Refuse what no comparison can be made with.

    Raises:
        UserError: ``margin`` or ``replicates`` is out of range.
    """
    if not 0 <= margin < 1:
        raise UserError(f"the margin is {margin}, expected an absolute WER from 0 to 1 (0.005 is half a percent)")
    if not 100 <= replicates <= _MOST_REPLICATES:
        raise UserError(
            f"replicates is {replicates}, expected 100 to {_MOST_REPLICATES} (10000 is enough for an interval of 95 %)"
        )
