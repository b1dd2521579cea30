"""Batches: duration buckets for training, a balanced plan for prediction.

Lhotse forms the training batches (buckets of similar duration, a limit in seconds). Audio is decoded once and kept as
16-bit samples, because decoding Opus and Lhotse's speed perturbation without torchaudio take as long as a training
step of a small model.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from parlab.data.audio import load_audio, resample
from parlab.data.checks import check_duration, check_training_data, with_durations
from parlab.data.s2t_targets import S2TTargets, s2t_targets, transcription
from parlab.data.sources import Utterance
from parlab.text.s2t import S2TSymbols
from parlab.text.tokenizer import Tokenizer

__all__ = [
    "AudioCache",
    "Augmentation",
    "Batch",
    "Item",
    "TrainingSampler",
    "TrainingSet",
    "check_training_data",
    "prediction_batches",
    "with_durations",
]


@dataclass(frozen=True)
class Augmentation:
    """What a training item may undergo.

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
class Item:
    """One training example: the utterances it joins, its speed and gain, its duration in seconds.

    ``draw`` (0 to 1) decides what of an S2T example is used; 0 is all of it.
    """

    parts: tuple[int, ...]
    speed: float
    gain: float
    seconds: float
    draw: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Padded examples: ``speech`` (B, samples), ``text`` (B, L) padded with -1, and their lengths (B,).

    For S2T models also ``previous`` and ``ctc`` (B, L), padded with -1; a row of padding alone is not available.
    """

    speech: Tensor
    speech_lengths: Tensor
    text: Tensor
    text_lengths: Tensor
    references: list[str]
    ids: list[str]
    previous: Tensor | None = None
    ctc: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """On a device."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @property
    def seconds(self) -> float:
        """Seconds of audio at 16 kHz; only a measure of throughput."""
        return float(self.speech_lengths.sum()) / 16000


@dataclass
class AudioCache:
    """Decoded audio by utterance, as int16, up to ``max_bytes``."""

    sample_rate: int
    max_bytes: int = 4 * 2**30
    held: int = 0
    store: dict[str, np.ndarray] = field(default_factory=dict)

    def load(self, utterance: Utterance) -> np.ndarray:
        """Samples (n,) float32 in [-1, 1]."""
        if utterance.id in self.store:
            return self.store[utterance.id].astype(np.float32) / 32768.0
        samples = load_audio(utterance.audio, self.sample_rate, utterance.start, utterance.duration).numpy()
        check_duration(utterance, len(samples) / self.sample_rate)
        # What is returned is rounded too, so that the first epoch after a resume sees what an unbroken run sees.
        rounded = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
        if self.held + rounded.nbytes <= self.max_bytes:
            self.store[utterance.id] = rounded
            self.held += rounded.nbytes
        return rounded.astype(np.float32) / 32768.0


class TrainingSet(Dataset):
    """Loads lists of items as batches; the sampler yields the lists."""

    def __init__(
        self, utterances: Sequence[Utterance], tokenizer: Tokenizer, sample_rate: int, s2t: S2TSymbols | None = None
    ):
        self.utterances = list(utterances)
        self.tokenizer, self.s2t = tokenizer, s2t
        self.sample_rate = sample_rate
        self.cache = AudioCache(sample_rate)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, items: Any) -> Batch:
        return self.collate(items)

    def collate(self, items: Sequence[Item]) -> Batch:
        """Load, perturb, join and pad ``items``."""
        waves, texts, ids = [], [], []
        for item in items:
            parts = [self.utterances[i] for i in item.parts]
            wave = np.concatenate([self.cache.load(u) for u in parts])
            if item.speed != 1.0:  # faster is fewer samples at the same rate
                wave = resample(wave, round(self.sample_rate * item.speed), self.sample_rate)
            waves.append(torch.from_numpy(np.ascontiguousarray(wave * item.gain, dtype=np.float32)))
            texts.append(" ".join(u.text or "" for u in parts))
            ids.append("+".join(u.id for u in parts))
        previous = ctc = None
        if self.s2t is None:
            tokens = [self.tokenizer.encode(text) for text in texts]
        else:
            targets = [self._targets(item) for item in items]
            tokens = [list(t.text) for t in targets]
            previous, ctc = pad([t.previous or () for t in targets]), pad([t.ctc or () for t in targets])
            texts = [transcription(self.utterances[item.parts[0]]) for item in items]
        return Batch(
            speech=torch.nn.utils.rnn.pad_sequence(waves, batch_first=True),
            speech_lengths=torch.tensor([len(w) for w in waves]),
            text=pad(tokens),
            text_lengths=torch.tensor([len(t) for t in tokens]),
            references=texts,
            ids=ids,
            previous=previous,
            ctc=ctc,
        )

    def _targets(self, item: Item) -> S2TTargets:
        """S2T targets; two halves of the draw decide whether the previous text and the times are used."""
        assert self.s2t is not None
        utterance = self.utterances[item.parts[0]]
        return s2t_targets(utterance, self.tokenizer, self.s2t, item.draw < 0.5, (2 * item.draw) % 1 < 0.5)


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Token rows as (B, L), padded with -1."""
    tensors = [torch.tensor(list(row), dtype=torch.long) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-1)


class TrainingSampler(Sampler[list[Item]]):
    """Batches of items of similar duration, new ones each epoch, in buckets by Lhotse.

    Args:
        utterances: with known durations (``with_durations`` finds missing ones).
        max_seconds: audio in a batch at most.
        weights: how often each utterance occurs in an epoch (a fraction is a chance), one per utterance.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        max_seconds: float,
        augmentation: Augmentation | None = None,
        weights: Sequence[float] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        buckets: int = 10,
    ):
        self.utterances, self.max_seconds = list(utterances), max_seconds
        self.augmentation = augmentation or Augmentation()
        self.weights = list(weights) if weights is not None else [1.0] * len(self.utterances)
        self.shuffle, self.seed, self.buckets = shuffle, seed, buckets
        self.epoch = 0
        self._count: int | None = None

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this; the epoch decides the order and the augmentation, also after a resume."""
        self.epoch = epoch

    def items(self) -> list[Item]:
        """All items of the epoch, before batching."""
        rng = random.Random(f"{self.seed}-{self.epoch}")
        order = [i for i, w in enumerate(self.weights) for _ in range(int(w) + (rng.random() < w % 1))]
        if self.shuffle:
            rng.shuffle(order)
        how = self.augmentation
        items, queue = [], list(reversed(order))
        while queue:
            parts = [queue.pop()]
            seconds = self.utterances[parts[0]].duration or 0.0
            if how.join_probability and rng.random() < how.join_probability:
                while queue and seconds + (self.utterances[queue[-1]].duration or 0.0) <= how.join_seconds:
                    parts.append(queue.pop())
                    seconds += self.utterances[parts[-1]].duration or 0.0
            speed = rng.choice(how.speeds)
            gain = 10 ** (rng.uniform(-how.gain_db, how.gain_db) / 20)
            items.append(Item(tuple(parts), speed, gain, seconds / speed, rng.random()))
        return items

    def __iter__(self) -> Iterator[list[Item]]:
        from lhotse import CutSet, MonoCut
        from lhotse.dataset import DynamicBucketingSampler, DynamicCutSampler

        items = self.items()
        cuts = CutSet.from_cuts(
            MonoCut(id=str(i), start=0.0, duration=round(item.seconds, 3), channel=0) for i, item in enumerate(items)
        )
        how = {"max_duration": self.max_seconds, "shuffle": self.shuffle, "seed": self.seed + self.epoch}
        # Each process makes all batches; who takes which is decided above (EpochSampler), and not by Lhotse, which
        # fills uneven shares with copies.
        alone = {"rank": 0, "world_size": 1}
        count = min(self.buckets, len(items) // 20)
        with warnings.catch_warnings():  # it advises lazy manifests, but these cuts are only numbers in memory
            warnings.filterwarnings("ignore", message=".*eagerly read CutSet")
            if count < 2:  # too few items for buckets
                sampler: Any = DynamicCutSampler(cuts.to_eager(), **how, **alone)
            else:
                sampler = DynamicBucketingSampler(cuts.to_eager(), num_buckets=count, **how, **alone)
        batches = [[items[int(cut.id)] for cut in batch] for batch in sampler]
        self._count = len(batches)
        return iter(batches)

    def __len__(self) -> int:
        """Batches of the present epoch (they differ a little from epoch to epoch)."""
        if self._count is None:
            self._count = sum(1 for _ in iter(self))
        return self._count


def prediction_batches(
    utterances: Sequence[Utterance],
    max_batch_size: int = 8,
    max_batch_seconds: float = 240.0,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[Utterance]]:
    """This rank's batches for prediction: each utterance exactly once, similar durations together.

    Batches are formed for all ranks alike, longest first, and dealt to the rank with the least padded
    seconds so far; some ranks may get none. Utterances of unknown duration count 10 s.
    """
    batches: list[list[Utterance]] = []
    longest = 0.0
    for utterance in sorted(utterances, key=lambda u: (-(u.duration or 10.0), u.id)):
        full = batches and (len(batches[-1]) >= max_batch_size or longest * (len(batches[-1]) + 1) > max_batch_seconds)
        if not batches or full:
            batches.append([])
            longest = utterance.duration or 10.0
        batches[-1].append(utterance)
    load = [0.0] * world_size
    mine = []
    for batch in batches:
        target = min(range(world_size), key=lambda r: (load[r], r))
        load[target] += len(batch) * (batch[0].duration or 10.0)
        if target == rank:
            mine.append(batch)
    return mine
