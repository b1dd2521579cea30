"""Training batches: which items an epoch has, and which of them go together.

Lhotse forms the batches: buckets of similar duration, a limit in seconds.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Sampler

from parlab.data.examples import Item
from parlab.data.utterance import Utterance


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training item.

    Attributes:
        speeds: factors of speed perturbation, one drawn for each item (Ko et al. 2015).
        join_probability: chance that a short utterance is joined with others, so that the decoder sees more
            contexts than the corpus has sentences.
        join_seconds: longest joined item.
        gain_db: random gain, plus or minus.
    """

    speeds: tuple[float, ...] = (1.0,)
    join_probability: float = 0.0
    join_seconds: float = 8.0
    gain_db: float = 0.0


@dataclass(frozen=True)
class Order:
    """The order of an epoch.

    Attributes:
        shuffle: draw a new order each epoch; else the order is that of the data.
        seed: of order and augmentation.
        buckets: of similar duration, at most.
    """

    shuffle: bool = True
    seed: int = 0
    buckets: int = 10


class TrainingSampler(Sampler[list[Item]]):
    """Batches of items of similar duration, new ones each epoch.

    Args:
        utterances: with known durations (``with_durations`` finds missing ones).
        max_seconds: audio in a batch at most.
        weights: occurrences of each utterance in an epoch (a fraction is a chance), one per utterance.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float,
        augmentation: Augmentation | None = None,
        weights: Sequence[float] | None = None,
        order: Order = Order(),
    ):
        self.utterances, self.max_seconds = list(utterances), max_seconds
        self.augmentation = augmentation or Augmentation()
        self.weights = list(weights) if weights is not None else [1.0] * len(self.utterances)
        self.order = order
        self.epoch = 0
        self._count: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this; the epoch decides the order and the augmentation, also after a resume."""
        self.epoch = epoch

    def items(self) -> list[Item]:
        """All items of the epoch, before batching."""
        rng = random.Random(f"{self.order.seed}-{self.epoch}")
        order = [i for i, w in enumerate(self.weights) for _ in range(int(w) + (rng.random() < w % 1))]
        if self.order.shuffle:
            rng.shuffle(order)
        options = self.augmentation
        items, queue = [], list(reversed(order))
        while queue:
            parts = [queue.pop()]
            seconds = self.utterances[parts[0]].duration or 0.0
            if options.join_probability and rng.random() < options.join_probability:
                while queue and seconds + (self.utterances[queue[-1]].duration or 0.0) <= options.join_seconds:
                    parts.append(queue.pop())
                    seconds += self.utterances[parts[-1]].duration or 0.0
            speed = rng.choice(options.speeds)
            gain = 10 ** (rng.uniform(-options.gain_db, options.gain_db) / 20)
            items.append(Item(tuple(parts), speed, gain, seconds / speed, rng.random()))
        return items

    def __iter__(self) -> Iterator[list[Item]]:
        items = self.items()
        batches = [[items[i] for i in batch] for batch in self._grouped([item.seconds for item in items])]
        self._count = len(batches)
        return iter(batches)

    def _grouped(self, seconds: Sequence[float]) -> list[list[int]]:
        """Indices of items whose durations are ``seconds``, by batch."""
        from lhotse import CutSet, MonoCut
        from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler

        cuts = CutSet.from_cuts(
            MonoCut(id=str(i), start=0.0, duration=round(duration, 3), channel=0) for i, duration in enumerate(seconds)
        )
        options: dict[str, Any] = {
            "max_duration": self.max_seconds,
            "shuffle": self.order.shuffle,
            "seed": self.order.seed + self.epoch,
            # Each process makes all batches. `EpochSampler` deals them to the ranks; Lhotse would fill uneven
            # shares with copies.
            "rank": 0,
            "world_size": 1,
        }
        count = min(self.order.buckets, len(seconds) // 20)
        with warnings.catch_warnings():  # it advises lazy manifests, but these cuts are only numbers in memory
            warnings.filterwarnings("ignore", message=".*eagerly read CutSet")
            if count < 2:  # too few items for buckets
                sampler: Any = DynamicCutSampler(cuts.to_eager(), **options)
            else:
                sampler = DynamicBucketingSampler(cuts.to_eager(), num_buckets=count, **options)
        return [[int(cut.id) for cut in batch] for batch in sampler]

    def __len__(self) -> int:
        """Batches of the present epoch (they differ a little from epoch to epoch)."""
        if self._count is None:
            self._count = sum(1 for _ in iter(self))
        return self._count
