"""The interface of confidence measures, and drafts with the confidences of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar

from torch import Tensor

from parlab.decode.confidence.evidence import REDUCTIONS, Evidence
from parlab.decode.confidence.fitted import with_fitted
from parlab.decode.confidence.naming import plugin, plugins
from parlab.errors import UserError, nearest

ROOM = "parlab.decode.confidence.measures"
DEFAULT = "posterior"  # what drafts have by themselves


class Measure(ABC):
    """A frozen dataclass whose fields are its options."""

    name: ClassVar[str]

    @property
    def reads_decoder(self) -> bool:
        """Whether it needs the decoder's pass over the drafts."""
        return False

    @property
    def reads_rank(self) -> bool:
        """Whether it asks how many tokens the decoder finds more probable."""
        return False

    @abstractmethod
    def confidence(self, evidence: Evidence) -> Tensor:
        """How sure each token is, (B, U) from 0 to 1, on the host; what padding has does not matter."""


def find_measure(text: str) -> Measure:
    """The measure that ``text`` names, as ``gibbs``, ``tsallis:alpha=0.5`` or ``learned:file=exp/model``.

    Raises:
        UserError: there is none, or not with these options.
    """
    return _measure(with_fitted(text))


@cache
def _measure(text: str) -> Measure:
    return plugin(ROOM, Measure, text)  # type: ignore[type-abstract]


def measure_names() -> list[str]:
    """The names of all measures."""
    return list(plugins(ROOM))


def check_reduction(measure: Measure, reduction: str) -> None:
    """Refuse a reduction that does not exist.

    Raises:
        UserError: naming those that do.
    """
    if reduction not in REDUCTIONS:
        raise UserError(
            f"the option reduce of the measure {measure.name} is '{reduction}', expected one of {', '.join(REDUCTIONS)}"
            f"{nearest(reduction, REDUCTIONS)}"
        )


def check_positive(measure: Measure, **values: float) -> None:
    """Refuse numbers that are not above 0.

    Raises:
        UserError: naming the first one.
    """
    for name, value in values.items():
        if not value > 0:
            raise UserError(
                f"the option {name} of the measure {measure.name} is {value}, expected a number above 0; correct it"
            )
