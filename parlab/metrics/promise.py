"""What a development set lets one promise of a setting: learn-then-test with betting (Angelopoulos et al. 2021, arXiv:2110.01052;
Waudby-Smith and Ramdas 2024, arXiv:2010.09686).

A loss is a number from -1 to 1 for each of n exchangeable units (utterances, or speakers): what a setting loses against
another one. The hypothesis that its mean is above delta is bet against. Each unit multiplies a bettor's capital by
1 + stake * (delta - loss): if the hypothesis is true, no stake makes the expected capital grow, so that it exceeds 1 / alpha with a
probability of at most alpha (Markov). Several bettors of fixed stakes share the capital; the order of units does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BETTORS = 10  # stakes: the highest possible one, half of it, a quarter, ...


@dataclass(frozen=True)
class Promise:
    """With probability 1 - ``alpha`` a setting that is called ``kept`` loses at most ``delta`` in the mean.

    Attributes:
        p_value: probability of losses as low as these, or lower, if the mean were above ``delta``: at most.
        units: on which it was tested.
        needed: units that would be needed if others lost what these did; None where they lose too much.
    """

    delta: float
    alpha: float
    p_value: float
    units: int
    needed: int | None

    @property
    def kept(self) -> bool:
        """Whether the promise is made."""
        return self.p_value <= self.alpha


def stakes(delta: float) -> tuple[NDArray, NDArray]:
    """Stakes at which no loss up to 1 makes the capital negative, and their shares of the capital, which sum to 1."""
    rank = np.arange(1, _BETTORS + 1)
    shares = 1.0 / rank**2
    return 0.5 ** (rank - 1) / (1.0 - delta), shares / shares.sum()


def p_value(losses: NDArray, delta: float) -> float:
    """Of the hypothesis that the mean of losses (n,) from -1 to 1 is above ``delta``, which is below 1."""
    own, shares = stakes(delta)
    gains = np.log1p(np.maximum(own[:, None] * (delta - np.asarray(losses)), -1 + 1e-15)).sum(1)
    capital = float(np.exp(np.logaddexp.reduce(gains + np.log(shares))))
    return min(1.0, 1.0 / max(capital, 1e-300))


def promise(losses: NDArray, delta: float, alpha: float) -> Promise:
    """Test the losses (n,) of one setting."""
    return Promise(delta, alpha, p_value(losses, delta), len(losses), needed_units(losses, delta, alpha))


def needed_units(losses: NDArray, delta: float, alpha: float) -> int | None:
    """Units that would be needed if the losses (n,) went on as they are: None where no stake gains by them."""
    own, shares = stakes(delta)
    if len(losses) == 0 or delta <= 0:
        return None
    growth = np.log1p(np.maximum(own[:, None] * (delta - np.asarray(losses)), -1 + 1e-15)).mean(1)
    needed = [(math.log(1 / alpha) - math.log(s)) / g for g, s in zip(growth, shares, strict=True) if g > 0]
    return math.ceil(min(needed)) if needed else None


def least_units(delta: float, alpha: float) -> int | None:
    """Units without which nothing can be promised, even where nothing is lost; None where ``delta`` is not above 0."""
    return needed_units(np.zeros(1), delta, alpha)


def first_to_last(losses: Iterable[NDArray], delta: float, alpha: float) -> list[Promise]:
    """Test settings in an order that was fixed without these losses; the first that is not promised ends it.

    All promises together hold with probability 1 - ``alpha`` (fixed sequence testing): a false one must be the first setting in
    the order that loses more than ``delta``.

    Returns:
        the tested ones, all but perhaps the last of them promised.
    """
    found: list[Promise] = []
    for own in losses:
        found.append(promise(own, delta, alpha))
        if not found[-1].kept:
            break
    return found
