"""Training and development data for Lightning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from parlab.commands.fit.batches import EpochSampler, check_s2t_augmentation, frame_counter
from parlab.data.checks import check_training_data, emittable, usable
from parlab.data.examples import Item, TrainingSet
from parlab.data.plan import prediction_batches
from parlab.data.s2t_targets import plain, s2t_targets
from parlab.data.sampling import Augmentation, Order, TrainingSampler
from parlab.data.sources import read_data
from parlab.data.utterance import Utterance
from parlab.errors import UserError, nearest
from parlab.model.hybrid import HybridModel
from parlab.text.normalizer import normalizer
from parlab.text.s2t import S2TSymbols
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure

BROKEN = ("skip", "raise")


class ASRData(LightningDataModule):
    """Utterances for ``fit`` and ``validate``.

    Args:
        train: training data, anything that ``read_data`` takes, or a mapping from it to its weight: occurrences
            of each of its utterances in an epoch (0.5: every second epoch).
        dev: development data, one or several.
        batch_seconds: audio of a training batch at most.
        dev_batch_size: utterances of a development batch.
        min_seconds, max_seconds: durations that are trained on.
        augmentation: speed perturbation, joining, gain.
        normalize: name of the text normaliser for references.
        limit: use only so many utterances of each.
        workers: loading processes; 0 loads in the training process and is best on few cores.
        seed: of order and augmentation.
        broken: what a file that cannot be loaded does: ``skip`` leaves it out and counts it, ``raise`` ends the training.

    Attributes:
        left_out: utterances that are not trained on, counted by the reason.
        failed: those of them whose files are broken, as far as that is known before they are loaded.
    """

    # 12 parameters: LightningCLI makes an option of each.
    def __init__(
        self,
        train: str | list[str] | dict[str, float] | None = None,
        dev: str | list[str] | None = None,
        batch_seconds: float = 150.0,
        dev_batch_size: int = 8,
        min_seconds: float = 0.3,
        max_seconds: float = 25.0,
        augmentation: Augmentation = Augmentation(),
        normalize: str = "none",
        limit: int | None = None,
        workers: int = 0,
        seed: int = 0,
        broken: str = "skip",
    ):
        super().__init__()
        if broken not in BROKEN:
            raise UserError(
                f"data.broken is '{broken}', expected {' or '.join(BROKEN)}{nearest(broken, BROKEN)}; correct it"
            )
        self.broken = broken
        self.left_out: Counter[str] = Counter()
        self.failed: list[Failure] = []
        self.train_sources, self.dev_source = train, dev
        self.batch_seconds, self.dev_batch_size = batch_seconds, dev_batch_size
        self.min_seconds, self.max_seconds = min_seconds, max_seconds
        self.augmentation = augmentation
        self.text = normalizer(normalize)
        self.limit, self.workers, self.seed = limit, workers, seed
        self.tokenizer: Tokenizer | None = None  # known once the network is made
        self.sample_rate = 16000
        self.s2t: S2TSymbols | None = None
        self._train: tuple[list[Utterance], list[float]] | None = None
        self._dev: list[Utterance] | None = None
        self._fitting: tuple[list[Utterance], list[float]] | None = None
        self._frames: Callable[[float], int] | None = None

    def adapt_to(self, model: HybridModel, tokenizer: Tokenizer) -> None:
        """Make the batches fit a model; must come before the loaders."""
        self.tokenizer, self.sample_rate, self.s2t = tokenizer, model.sample_rate, model.s2t
        self._frames = frame_counter(model)
        self._fitting = None

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

    def check(self) -> None:
        """Read all data, and check that every audio file is there.

        Raises:
            UserError: it cannot be read, or is not fit for training.
        """
        self.train_utterances()
        self.dev_utterances()

    def _prepared(self, source: str | Sequence[str], shortest: float, longest: float) -> list[Utterance]:
        found, failed = usable(read_data(source, self.limit), f"utterances of {source}", self.broken == "skip")
        self.failed += failed
        self.left_out["broken"] += len(failed)
        found = [u if u.text is None else replace(u, text=self.text(u.text)) for u in found]
        kept = check_training_data(found, None, shortest, longest)
        self.left_out[f"shorter than {shortest} s"] += sum((u.duration or 0.0) < shortest for u in found)
        self.left_out[f"longer than {longest} s"] += sum((u.duration or 0.0) > longest for u in found)
        return kept

    def fitting(self) -> tuple[list[Utterance], list[float]]:
        """Training utterances that CTC can emit in their frames, and the weight of each; once the model is known.

        Raises:
            UserError: a reference cannot be spelt, or none is left.
        """
        if self._fitting is None:
            utterances, weights = self.train_utterances()
            tokenizer = self._tokenizer(utterances)
            kept = [i for i, u in enumerate(utterances) if self._emittable(u, tokenizer)]
            if not kept:
                raise UserError(
                    f"each of the {len(utterances)} training utterances has more tokens than encoder frames, expected "
                    "fewer; use a tokenizer of longer pieces, or an encoder that subsamples less"
                )
            self.left_out["with more tokens than encoder frames"] = len(utterances) - len(kept)
            self._fitting = [utterances[i] for i in kept], [weights[i] for i in kept]
        return self._fitting

    def _emittable(self, utterance: Utterance, tokenizer: Tokenizer) -> bool:
        if self._frames is None:
            return True
        if self.s2t is not None:
            tokens: Sequence[int] = s2t_targets(utterance, tokenizer, self.s2t).ctc or ()
        else:
            tokens = tokenizer.encode(utterance.text or "")
        return emittable(tokens, self._frames(utterance.duration or 0.0))

    def describe(self) -> str:
        """One line about the data, once the model is known."""
        utterances, dev = self.fitting()[0], self.dev_utterances()
        self._tokenizer(dev)
        hours = sum(u.duration or 0.0 for u in utterances) / 3600
        left = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
        text = f"data: {len(utterances)} utterances ({hours:.2f} h) to train on, {len(dev)} for development"
        return f"{text}; left out: {left}" if left else text

    def training_texts(self) -> list[str]:
        """References of the training data, for making a tokenizer."""
        return [u.text or "" for u in self.train_utterances()[0]]

    def _tokenizer(self, utterances: Sequence[Utterance]) -> Tokenizer:
        assert self.tokenizer is not None, "adapt_to comes before the loaders"
        spelled = utterances if self.s2t is None else [replace(u, text=plain(u.text or "")) for u in utterances]
        check_training_data(spelled, self.tokenizer, 0.0, 1e9)
        return self.tokenizer

    def train_dataloader(self) -> DataLoader:
        utterances, weights = self.fitting()
        trainer = self.trainer
        shown = utterances
        if self.s2t is not None:
            check_s2t_augmentation(self.augmentation, utterances)
            window = self.s2t.window_seconds  # the model sees so much of each, and a batch is made of that
            shown = [replace(u, duration=window or u.duration) for u in utterances]
        sampler = TrainingSampler(shown, self.batch_seconds, self.augmentation, weights, Order(seed=self.seed))
        data = TrainingSet(utterances, self._tokenizer(utterances), self.sample_rate, self.s2t)
        return DataLoader(
            data,
            sampler=EpochSampler(sampler, trainer),
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
        )

    def val_dataloader(self) -> DataLoader:
        utterances = self.dev_utterances()
        rank = self.trainer.global_rank if self.trainer else 0
        world = self.trainer.world_size if self.trainer else 1
        if len(utterances) < world:
            raise UserError(
                f"there are {len(utterances)} development utterances for {world} devices; use fewer devices"
            )
        index = {u.id: i for i, u in enumerate(utterances)}
        data = TrainingSet(utterances, self._tokenizer(utterances), self.sample_rate, self.s2t)
        # Every rank needs a batch, or it would leave out the validation and the others would wait for it.
        size = min(self.dev_batch_size, len(utterances) // world)
        batches = prediction_batches(utterances, size, 300.0, rank, world)
        batched = [[Item((index[u.id],), 1.0, 1.0, u.duration or 0.0) for u in batch] for batch in batches]
        return DataLoader(data, sampler=batched, batch_size=None, num_workers=0)  # type: ignore[arg-type]
