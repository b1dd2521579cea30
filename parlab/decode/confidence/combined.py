"""What measures that are made of other measures share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from parlab.decode.confidence.measure import Measure, find_measure
from parlab.errors import UserError


@dataclass(frozen=True)
class Combined(Measure):
    """A measure made of others.

    Attributes:
        of: names of measures, ``+`` between them; each with its default options.
    """

    of: str = "posterior+decoder"

    def __post_init__(self) -> None:
        if self.name in self.of.split("+"):
            raise UserError(
                f"the option of of the measure {self.name} is '{self.of}', expected other measures than {self.name}"
            )
        _ = self.parts

    @cached_property
    def parts(self) -> tuple[Measure, ...]:
        """The measures."""
        return tuple(find_measure(name) for name in self.of.split("+"))

    @property
    def reads_decoder(self) -> bool:
        return any(part.reads_decoder for part in self.parts)

    @property
    def reads_rank(self) -> bool:
        return any(part.reads_rank for part in self.parts)
