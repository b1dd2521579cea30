"""Files that cannot be loaded while a model is trained: left out, counted, and too many of them refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from parlab.data.checks import refuse_many_broken
from parlab.data.examples import Batch
from parlab.errors import UserError
from parlab.types import Failure


@dataclass
class BrokenFiles:
    """What one rank could not load.

    Attributes:
        raises: whether the first one ends the training.
        failures: each utterance once, in the order of the training.
        epoch: those of the epoch at hand; ``seen`` counts all its utterances or joins, broken ones among them.
    """

    raises: bool = False
    failures: dict[str, Failure] = field(default_factory=dict)
    epoch: list[Failure] = field(default_factory=list)
    seen: int = 0

    @property
    def counts(self) -> tuple[float, float]:
        """Broken and seen in this epoch; they add up over ranks."""
        return len(self.epoch), self.seen

    def start_epoch(self) -> None:
        """Count anew."""
        self.epoch, self.seen = [], 0

    def add(self, batch: Batch) -> None:
        """Count a batch; the first time that an utterance is missing, say so on stderr.

        Raises:
            UserError: one is broken, and that ends the training.
        """
        self.seen += len(batch.ids) + len(batch.failed)
        self.epoch += batch.failed
        for failure in batch.failed:
            if self.raises:
                raise UserError(f"the utterance '{failure.id}' cannot be used: {failure.reason}")
            if failure.id not in self.failures:
                print(f"warning: left out '{failure.id}': {failure.reason}", file=sys.stderr, flush=True)
            self.failures[failure.id] = failure

    def check(self, totals: Sequence[float], which: str) -> None:
        """Refuse an epoch most of which is broken.

        Args:
            totals: broken and seen, of all ranks.

        Raises:
            UserError: more than half of it is.
        """
        first = self.epoch[0].reason if self.epoch else "another process could not load its files"
        refuse_many_broken(totals[0], totals[1], f"{which} of an epoch", first)

    def summary(self) -> str | None:
        """One line for the end of the training; None where all could be loaded."""
        if not self.failures:
            return None
        names = list(self.failures)
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        return f"left out {len(names)} broken utterances: {', '.join(names[:5])}{more}"
