"""What a suite measures, in which order, and the time that it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from parlab.commands.bench.options import BenchOptions
from parlab.metrics.tables import Cell

Fields = Mapping[str, Cell]


class Budget:
    """Seconds that are left of a span of time.

    Args:
        clock: seconds that never go backwards.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds until the end; below 0 after it."""
        return self.end - self.clock()


@dataclass(frozen=True)
class Measurement:
    """A case of the suite.

    Attributes:
        about: what it is, the first cells of its row.
        run: measures it; returns the other cells.
        cost: how its time compares with the other cases of its ``family``, as the number of utterances does.
        family: cases whose times are in proportion to their costs.
    """

    about: Fields
    run: Callable[[], Fields]
    cost: float = 1.0
    family: str = ""


@dataclass(frozen=True)
class SpeedCase:
    """Whole utterances of one duration through a random model."""

    size: str
    seconds: float
    masks: int
    precision: str
    batch: int


def speed_cases(options: BenchOptions) -> Iterator[SpeedCase]:
    """All cases of speed: size by size, so that each model is made once; the most telling batch sizes first."""
    for size in options.sizes:
        for seconds, masks in options.durations_of(size):
            for precision in options.precisions:
                for batch in by_interest(options.batches):
                    yield SpeedCase(size, seconds, masks, precision, batch)


def by_interest(batches: Sequence[int]) -> list[int]:
    """Batch sizes from the middle outwards: what is left out when time runs out are the extremes."""
    middle = (len(batches) - 1) / 2
    return [batch for _, batch in sorted(enumerate(sorted(batches)), key=lambda item: abs(item[0] - middle))]
