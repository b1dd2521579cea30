"""Budgets: what a setting may cost, as ``wer<=ar+0.2``, ``time<=greedy*1.1`` or ``masked<=0.15``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parlab.commands.tune.trials import Trial
from parlab.errors import UserError

QUANTITIES = ("wer", "time", "masked")
_FORM = re.compile(r"(wer|time|masked)<=(?:(ar|greedy)([+*]))?(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Budget:
    """A bound on one quantity.

    Attributes:
        quantity: ``wer`` (percent), ``time`` (of decoding, encoder included) or ``masked`` (share of the draft's tokens).
        base: ``ar`` or ``greedy``, to whose value ``amount`` is added (``+``) or by which it is multiplied (``*``); None: the
            amount alone.
    """

    quantity: str
    base: str | None
    sign: str | None
    amount: float

    @staticmethod
    def parse(text: str) -> Budget:
        """A budget as it is written.

        Raises:
            UserError: it is none.
        """
        found = _FORM.fullmatch(text.replace(" ", ""))
        if not found or (found[1] == "masked" and found[2]) or (found[1] == "time" and not found[2]):
            raise UserError(
                f"the budget is '{text}', expected one such as wer<=ar+0.2 (percentage points), wer<=ar*1.05, wer<=12.5, "
                "time<=greedy*1.1 or masked<=0.15; correct it"
            )
        return Budget(found[1], found[2], found[3], float(found[4]))

    def limit(self, bases: Mapping[str, Trial]) -> float:
        """The bound, from the results of greedy and AR on the same data."""
        base = 0.0 if self.base is None else self.value(bases[self.base])
        return base * self.amount if self.sign == "*" else base + self.amount

    def value(self, trial: Trial) -> float:
        """What a setting has of the quantity."""
        if self.quantity == "wer":
            return 100 * trial.wer
        return trial.seconds if self.quantity == "time" else trial.masked_share

    def within(self, trial: Trial, bases: Mapping[str, Trial]) -> bool:
        """Whether a setting keeps the budget."""
        return self.value(trial) <= self.limit(bases) + 1e-9

    def best(self, trials: Sequence[Trial], bases: Mapping[str, Trial]) -> Trial:
        """The setting to take: with a bound on WER the least work within it, with another bound the lowest WER within it.

        Where none keeps the budget: the one that is nearest to it.
        """
        inside = [t for t in trials if self.within(t, bases)]
        if not inside:
            return min(trials, key=lambda t: (self.value(t), t.wer, t.work))
        if self.quantity == "wer":
            return min(inside, key=lambda t: (t.work, t.wer))
        return min(inside, key=lambda t: (t.wer, t.work))
