"""Training and development data of a draft head, as states of the frozen encoder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from parlab.commands.fit.batches import EpochSampler
from parlab.commands.fit.head.batches import StateSet, spell
from parlab.commands.fit.head.encoding import Encoding, versions
from parlab.commands.fit.head.labels import Labels, characters, spelled
from parlab.commands.fit.head.states import StateStore, state_key
from parlab.data.checks import emittable, refuse_many_broken, usable
from parlab.data.examples import Item
from parlab.data.plan import prediction_batches
from parlab.data.sampling import Augmentation, Order, TrainingSampler
from parlab.data.sources import read_data
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.heads.making import states_width
from parlab.recognition.recognizer import Recognizer
from parlab.text.normalizer import normalizer
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure


class HeadData(LightningDataModule):
    """Utterances that a head is taught on, and tried on.

    Args:
        train: audio to learn from, one or several of anything that ``read_data`` takes.
        dev: development data with references.
        labels: folders that ``predict`` wrote: their texts are the labels; none of them: the data's own texts are.
        batch_seconds: audio of a training batch at most.
        dev_batch_size: utterances of a development batch.
        encode_batch_size: utterances that the frozen encoder sees at a time, once.
        min_seconds, max_seconds: durations that are trained on.
        speeds: at which the encoder hears the data; an epoch draws one for each utterance.
        min_count: occurrences of a character in the labels without which it is not in the vocabulary.
        normalizer: of references and drafts; by default Whisper's English one for an English-only Whisper.
        cache: folder of the states; by default ``states`` in the run folder.
        limit: use only so many utterances of each.
        seed: of order and augmentation.
        broken: what a file that cannot be loaded does: ``skip`` leaves it out and counts it, ``raise`` ends the training.

    Attributes:
        left_out: utterances that are not trained on, counted by the reason.
    """

    # 15 parameters: LightningCLI makes an option of each.
    def __init__(
        self,
        train: str | list[str] | None = None,
        dev: str | list[str] | None = None,
        labels: str | list[str] | None = None,
        batch_seconds: float = 150.0,
        dev_batch_size: int = 16,
        encode_batch_size: int = 8,
        min_seconds: float = 0.3,
        max_seconds: float = 30.0,
        speeds: tuple[float, ...] = (1.0,),
        min_count: int = 10,
        normalizer: str | None = None,
        cache: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        broken: str = "skip",
    ):
        super().__init__()
        if not speeds or not all(0.5 <= speed <= 2.0 for speed in speeds):
            raise UserError(f"data.speeds is {list(speeds)}, expected factors from 0.5 to 2; correct it")
        if broken not in ("skip", "raise"):
            raise UserError(f"data.broken is '{broken}', expected skip or raise; correct it")
        self.sources = {"train": train, "dev": dev}
        self.label_folders = [labels] if isinstance(labels, str) else list(labels or [])
        self.batch_seconds, self.dev_batch_size, self.encode_batch_size = (
            batch_seconds,
            dev_batch_size,
            encode_batch_size,
        )
        self.min_seconds, self.max_seconds, self.speeds = min_seconds, max_seconds, tuple(speeds)
        self.min_count, self.normalizer_name, self.cache = min_count, normalizer, cache
        self.limit, self.seed, self.broken = limit, seed, broken
        self.left_out: Counter[str] = Counter()
        self.failed: list[Failure] = []
        self.tokenizer: Tokenizer | None = None
        self._train: list[Utterance] = []
        self._dev: list[Utterance] = []
        self._store: StateStore | None = None

    # ---- utterances and labels ------------------------------------------------------------------

    def check(self) -> None:
        """Read all data and labels.

        Raises:
            UserError: they cannot be read, or none is of use.
        """
        if self._train:
            return
        labels = Labels.read(self.label_folders)
        train = [u for u in self._read("train") if self.min_seconds <= (u.duration or 0.0) <= self.max_seconds]
        if not train:
            raise UserError(
                f"no utterance lasts from {self.min_seconds} to {self.max_seconds} s, expected at least one; change the limits"
            )
        self._train = labels.of(train)
        self.left_out += labels.left_out
        dev = self._read("dev")
        if missing := [u.id for u in dev if not (u.text or "").strip()]:
            raise UserError(
                f"the development utterance '{missing[0]}' has no reference, which its draft is compared with; add one or leave it "
                "out"
            )
        self._dev = dev
        self.dev_labels = {
            u.id: (labels.texts.get(u.id) if labels.texts is not None else u.text) or "" for u in self._dev
        }

    def _read(self, which: str) -> list[Utterance]:
        source = self.sources[which]
        if not source:
            raise UserError(f"there is no data.{which}, expected audio; name a manifest or a Kaldi folder")
        found, failed = usable(read_data(source, self.limit), f"utterances of {source}", self.broken == "skip")
        self.failed += failed
        return found

    def train_utterances(self) -> list[Utterance]:
        """Utterances that the head learns from, their labels as texts."""
        return self._train

    def dev_utterances(self) -> list[Utterance]:
        """Development utterances with their references."""
        return self._dev

    def training_texts(self) -> list[str]:
        """All labels."""
        return [u.text or "" for u in self._train]

    def vocabulary(self) -> Tokenizer:
        """The characters of the labels."""
        return characters(self.training_texts(), self.min_count)

    # ---- states ---------------------------------------------------------------------------------

    def encode(self, recognizer: Recognizer, layers: tuple[int, ...], folder: Path, ranks: Any) -> StateStore:
        """Encode what ``folder`` lacks, each rank its share, and find it.

        Args:
            layers: what the head reads.

        Raises:
            UserError: more than half of the audio is broken.
        """
        window = recognizer.model.window_seconds
        if window is not None:
            before = len(self._train) + len(self._dev)
            self._train, self._dev = (
                [u for u in found if (u.duration or 0.0) <= window] for found in (self._train, self._dev)
            )
            self.left_out[f"longer than the model's window of {window:g} s"] += (
                before - len(self._train) - len(self._dev)
            )
        wanted = versions(self._train, self.speeds, window) + versions(self._dev, (1.0,), window)
        width = max(len(layers), 1) * states_width(recognizer.model)
        store = StateStore(folder, width).read_index()
        shown = ranks.is_global_zero
        rank, world = getattr(ranks, "global_rank", 0), getattr(ranks, "world_size", 1)
        own = Encoding(recognizer, layers, store, self.encode_batch_size, shown)
        own.fill([v for v in wanted if v.key not in store][rank::world])
        ranks.barrier("states")
        self._store = store.read_index()
        return self._store

    def adapt_to(self, tokenizer: Tokenizer, stack: int) -> None:
        """Keep what the vocabulary can spell and CTC can emit in frames of ``stack`` encoder frames; after ``encode``."""
        store = self._store
        assert store is not None, "encode comes first"
        self.tokenizer = tokenizer
        for name in ("_train", "_dev"):
            there = [u for u in getattr(self, name) if state_key(u, 1.0) in store]
            broken = len(getattr(self, name)) - len(there)
            refuse_many_broken(broken, len(getattr(self, name)), "utterances", "they could not be encoded")
            self.left_out["that could not be loaded"] += broken
            setattr(self, name, there)
        train = spelled(self._train, tokenizer, lambda n: self.left_out.update({"with rare characters": n}))
        kept = [u for u in train if emittable(tokenizer.encode(u.text or ""), store.frames(state_key(u, 1.0)) // stack)]
        self.left_out["with more tokens than frames of the head"] += len(train) - len(kept)
        if not kept:
            raise UserError(
                f"each of {len(train)} labels has more tokens than the head has frames, expected fewer; lower model.head.stack"
            )
        self._train = kept

    def describe(self) -> str:
        """One line about the data, once it is encoded."""
        hours = sum(u.duration or 0.0 for u in self._train) / 3600
        left = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
        text = f"data: {len(self._train)} utterances ({hours:.2f} h) to learn from, {len(self._dev)} for development"
        return f"{text}; left out: {left}" if left else text

    def normalize(self, english: bool) -> Any:
        """The normaliser of references and drafts."""
        return normalizer(self.normalizer_name or ("whisper_english" if english else "none"))

    # ---- loaders --------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        assert self.tokenizer is not None and self._store is not None
        order, speeds = Order(seed=self.seed), Augmentation(speeds=self.speeds)
        sampler = TrainingSampler(self._train, self.batch_seconds, speeds, None, order)
        data = StateSet(self._train, self.tokenizer, self._store)
        return DataLoader(data, sampler=EpochSampler(sampler, self.trainer), batch_size=None, num_workers=0)

    def val_dataloader(self) -> DataLoader:
        assert self.tokenizer is not None and self._store is not None
        rank = self.trainer.global_rank if self.trainer else 0
        world = self.trainer.world_size if self.trainer else 1
        if len(self._dev) < world:
            raise UserError(f"there are {len(self._dev)} development utterances for {world} devices; use fewer devices")
        data = StateSet(self._dev, self.tokenizer, self._store)
        data.targets = [spell(self.tokenizer, self.dev_labels[u.id]) for u in self._dev]
        index = {u.id: i for i, u in enumerate(self._dev)}
        batches = prediction_batches(self._dev, min(self.dev_batch_size, len(self._dev) // world), 600.0, rank, world)
        batched = [[Item((index[u.id],), 1.0, 1.0, u.duration or 0.0) for u in batch] for batch in batches]
        return DataLoader(data, sampler=batched, batch_size=None, num_workers=0)  # type: ignore[arg-type]
