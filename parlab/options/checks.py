"""Numbers on the command line that would leave nothing to do, or make no sense."""

from __future__ import annotations

import math
from typing import Any

from parlab.errors import UserError


def check_above_zero(options: Any, *names: str) -> None:
    """Refuse options that are not above 0, where they are given.

    Raises:
        UserError: naming the first of them.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise UserError(f"the option {name} is {value}, expected more than 0; correct it")


def check_not_negative(options: Any, *names: str) -> None:
    """Refuse options below 0, where they are given.

    Raises:
        UserError: naming the first of them.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise UserError(f"the option {name} is {value}, expected a number from 0; correct it")
