"""A comparison: all systems, and each one against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parlab.commands.compare.comparability import check_comparable
from parlab.commands.compare.pairs import Pair
from parlab.commands.compare.systems import System
from parlab.errors import UserError
from parlab.metrics.significance import REPLICATES
from parlab.predictions.files import Json
from parlab.predictions.prediction import Prediction

MARGIN = 0.005


@dataclass(frozen=True)
class Comparison:
    """Systems on the same data, the first of which is the baseline; ``pairs`` are the others against it.

    Attributes:
        margin: absolute WER that may be lost for the verdict "no worse", a fraction.
        replicates: bootstrap replicates of every interval.
    """

    systems: tuple[System, ...]
    pairs: tuple[Pair, ...]
    margin: float
    replicates: int

    def to_json(self) -> dict[str, Json]:
        """The content of the file that ``compare --json`` writes."""
        return {
            "systems": [system.to_json() for system in self.systems],
            "pairs": [pair.to_json() for pair in self.pairs],
            "margin": self.margin,
            "replicates": self.replicates,
        }


def compare(predictions: Sequence[Prediction], margin: float = MARGIN, replicates: int = REPLICATES) -> Comparison:
    """Compare all predictions with the first.

    Args:
        margin: WER that may be lost for the verdict "no worse", absolute, a fraction.

    Raises:
        UserError: they cannot be compared; ``margin`` or ``replicates`` is out of range.
    """
    if not 0 <= margin < 1:
        raise UserError(f"the margin is {margin}, expected an absolute WER from 0 to 1 (0.005 is half a percent)")
    if replicates < 100:
        raise UserError(f"replicates is {replicates}, expected at least 100 for an interval of 95 %")
    check_comparable(predictions)
    systems = tuple(System.of(p, replicates) for p in predictions)
    pairs = tuple(Pair.of(predictions[0], other, margin, replicates) for other in predictions[1:])
    return Comparison(systems, pairs, margin, replicates)
