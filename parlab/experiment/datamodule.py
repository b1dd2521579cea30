"""Training and development data for Lightning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from parlab.data.batches import (
    Augmentation,
    TrainingSampler,
    TrainingSet,
    check_training_data,
    prediction_batches,
    with_durations,
)
from parlab.data.sources import Utterance, read_data
from parlab.data.text import normalizer
from parlab.data.tokenizer import Tokenizer
from parlab.errors import UserError


def _identity(batch: Any) -> Any:
    return batch


class ASRData(LightningDataModule):
    """Utterances for ``fit`` and ``validate``.

    Args:
        train: training data, anything that ``read_data`` takes, or a mapping from it to its weight: how often each
            of its utterances occurs in an epoch (0.5: every second epoch).
        dev: development data, one or several.
        batch_seconds: audio of a training batch at most.
        dev_batch_size: utterances of a development batch.
        min_seconds, max_seconds: durations that are trained on.
        augmentation: speed perturbation, joining, gain.
        normalize: name of the text normaliser for references.
        limit: use only so many utterances of each.
        workers: loading processes; 0 loads in the training process and is best on few cores.
        seed: of order and augmentation.
    """

    def __init__(
        self,
        train: str | list[str] | dict[str, float] | None = None,
        dev: str | list[str] | None = None,
        batch_seconds: float = 150.0,
        dev_batch_size: int = 8,
        min_seconds: float = 0.3,
        max_seconds: float = 25.0,
        augmentation: Augmentation | None = None,
        normalize: str = "none",
        limit: int | None = None,
        workers: int = 0,
        seed: int = 0,
    ):
        super().__init__()
        self.train_sources, self.dev_source = train, dev
        self.batch_seconds, self.dev_batch_size = batch_seconds, dev_batch_size
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        self.augmentation = augmentation or Augmentation()
        self.text = normalizer(normalize)
        self.limit, self.workers, self.seed = limit, workers, seed
        self.tokenizer: Tokenizer | None = None  # given by the module once it is known
        self.sample_rate = 16000
        self._train: tuple[list[Utterance], list[float]] | None = None
        self._dev: list[Utterance] | None = None

    def train_utterances(self) -> tuple[list[Utterance], list[float]]:
        """Training utterances and the weight of each."""
        if self._train is None:
            sources = self.train_sources
            if not sources:
                raise UserError("there is no training data, expected data.train; name a manifest or a Kaldi folder")
            if isinstance(sources, str):
                sources = [sources]
            weights: Mapping[str, float] = sources if isinstance(sources, Mapping) else dict.fromkeys(sources, 1.0)
            found, each = [], []
            for source, weight in weights.items():
                part = self._prepared(source, self.min_seconds, self.max_seconds)
                found += part
                each += [float(weight)] * len(part)
            self._train = found, each
        return self._train

    def dev_utterances(self) -> list[Utterance]:
        """Development utterances, all durations."""
        if self._dev is None:
            if not self.dev_source:
                raise UserError("there is no development data, expected data.dev; name a manifest or a Kaldi folder")
            self._dev = self._prepared(self.dev_source, 0.0, 1e9)
        return self._dev

    def _prepared(self, source: str | Sequence[str], shortest: float, longest: float) -> list[Utterance]:
        found = with_durations(read_data(source, self.limit))
        found = [u if u.text is None else replace(u, text=self.text(u.text)) for u in found]
        return check_training_data(found, None, shortest, longest)

    def training_texts(self) -> list[str]:
        """References of the training data, for making a tokenizer."""
        return [u.text or "" for u in self.train_utterances()[0]]

    def _tokenizer(self, utterances: Sequence[Utterance]) -> Tokenizer:
        assert self.tokenizer is not None, "the module sets the tokenizer before the loaders are made"
        check_training_data(utterances, self.tokenizer, 0.0, 1e9)
        return self.tokenizer

    def train_dataloader(self) -> DataLoader:
        utterances, weights = self.train_utterances()
        sampler = TrainingSampler(
            utterances,
            self.batch_seconds,
            self.augmentation,
            weights,
            seed=self.seed,
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=self.trainer.world_size if self.trainer else 1,
        )
        data = TrainingSet(utterances, self._tokenizer(utterances), self.sample_rate)
        return DataLoader(
            data, sampler=sampler, batch_size=None, num_workers=self.workers, persistent_workers=self.workers > 0
        )

    def val_dataloader(self) -> DataLoader:
        utterances = self.dev_utterances()
        index = {u.id: i for i, u in enumerate(utterances)}
        data = TrainingSet(utterances, self._tokenizer(utterances), self.sample_rate)
        rank = self.trainer.global_rank if self.trainer else 0
        world = self.trainer.world_size if self.trainer else 1
        batches = prediction_batches(utterances, self.dev_batch_size, 300.0, rank, world)
        plain = [[data_item(index[u.id], u) for u in batch] for batch in batches]
        return DataLoader(data, sampler=plain, batch_size=None, num_workers=0)  # type: ignore[arg-type]


def data_item(index: int, utterance: Utterance) -> Any:
    """An utterance as it is, without augmentation."""
    from parlab.data.batches import Item

    return Item((index,), 1.0, 1.0, utterance.duration or 0.0)
