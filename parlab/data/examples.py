"""Training examples: utterances loaded, perturbed, joined and padded.

Audio is decoded once and kept as 16-bit samples, because decoding Opus and Lhotse's speed perturbation without
torchaudio take as long as a training step of a small model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from parlab.data.audio import load_audio, resample
from parlab.data.checks import check_duration
from parlab.data.s2t_targets import S2TTargets, s2t_targets, transcription
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.text.padding import pad_tokens
from parlab.text.s2t import S2TSymbols
from parlab.text.targets import Targets
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure


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
    """Padded examples of B utterances.

    Attributes:
        speech: (B, samples), padded with zeros; ``speech_lengths`` (B,) counts the samples of each.
        targets: what the model learns from them.
        references: the texts that the greedy output is compared with.
        ids: of the utterances; joined ones are separated by ``+``.
        failed: utterances that could not be loaded, and that the batch therefore lacks.
    """

    speech: Tensor
    speech_lengths: Tensor
    targets: Targets
    references: list[str]
    ids: list[str]
    failed: tuple[Failure, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return replace(
            self,
            speech=self.speech.to(device),
            speech_lengths=self.speech_lengths.to(device),
            targets=self.targets.to(device),
        )

    @property
    def seconds(self) -> float:
        """Seconds of audio at 16 kHz; only a measure of throughput."""
        return float(self.speech_lengths.sum()) / 16000


class BrokenUtterance(Exception):
    """An utterance that cannot be loaded."""

    def __init__(self, failure: Failure):
        super().__init__(failure.reason)
        self.failure = failure


@dataclass
class AudioCache:
    """Decoded audio by utterance, as int16, up to ``max_bytes``."""

    sample_rate: int
    max_bytes: int = 4 * 2**30
    stored_bytes: int = 0
    store: dict[str, np.ndarray] = field(default_factory=dict)

    def load(self, utterance: Utterance) -> np.ndarray:
        """Samples (n,) float32 in [-1, 1]."""
        if utterance.id in self.store:
            return self.store[utterance.id].astype(np.float32) / 32768.0
        samples = load_audio(utterance.audio, self.sample_rate, utterance.start, utterance.duration).numpy()
        check_duration(utterance, len(samples) / self.sample_rate)
        # The result is rounded too, so that the first epoch after a resume sees what an unbroken run sees.
        rounded = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
        if self.stored_bytes + rounded.nbytes <= self.max_bytes:
            self.store[utterance.id] = rounded
            self.stored_bytes += rounded.nbytes
        return rounded.astype(np.float32) / 32768.0


class TrainingSet(Dataset[Batch]):
    """Loads lists of items as batches; the sampler yields the lists.

    Args:
        sample_rate: samples per second of the batches.
        s2t: symbols of an S2T model, whose targets have more than a text; None for ASR models.
    """

    def __init__(
        self, utterances: Sequence[Utterance], tokenizer: Tokenizer, sample_rate: int, s2t: S2TSymbols | None = None
    ):
        self.utterances = list(utterances)
        self.tokenizer, self.s2t = tokenizer, s2t
        self.sample_rate = sample_rate
        self.cache = AudioCache(sample_rate)

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, items: Sequence[Item]) -> Batch:
        """Load, perturb, join and pad ``items``; broken ones are left out, which may leave an empty batch."""
        loaded: list[Item] = []
        waves: list[Tensor] = []
        failed: list[Failure] = []
        for item in items:
            try:
                waves.append(self._wave(item))
                loaded.append(item)
            except BrokenUtterance as error:
                failed.append(error.failure)
        texts = [" ".join(self.utterances[i].text or "" for i in item.parts) for item in loaded]
        if self.s2t is not None:
            texts = [transcription(self.utterances[item.parts[0]]) for item in loaded]
        return Batch(
            speech=pad_sequence(waves, batch_first=True) if waves else torch.zeros(0, 0),
            speech_lengths=torch.tensor([len(w) for w in waves], dtype=torch.long),
            targets=self._targets(loaded, texts),
            references=texts,
            ids=["+".join(self.utterances[i].id for i in item.parts) for item in loaded],
            failed=tuple(failed),
        )

    def _wave(self, item: Item) -> Tensor:
        """Samples (n,) of an item.

        Raises:
            BrokenUtterance: one of its parts cannot be loaded.
        """
        parts = []
        for utterance in (self.utterances[i] for i in item.parts):
            try:
                parts.append(self.cache.load(utterance))
            except UserError as error:
                raise BrokenUtterance(Failure(utterance.id, str(error))) from error
        wave = np.concatenate(parts)
        if item.speed != 1.0:  # faster is fewer samples at the same rate
            wave = resample(wave, round(self.sample_rate * item.speed), self.sample_rate)
        return torch.from_numpy(np.ascontiguousarray(wave * item.gain, dtype=np.float32))

    def _targets(self, items: Sequence[Item], texts: Sequence[str]) -> Targets:
        if self.s2t is None:
            return Targets(*pad_tokens([self.tokenizer.encode(text) for text in texts], padding=-1))
        found = [self.s2t_targets(item) for item in items]
        text, lengths = pad_tokens([t.text for t in found], padding=-1)
        previous, _ = pad_tokens([t.previous or () for t in found], padding=-1)
        ctc_text, _ = pad_tokens([t.ctc or () for t in found], padding=-1)
        return Targets(text, lengths, previous, ctc_text)

    def s2t_targets(self, item: Item) -> S2TTargets:
        """Targets of one item; two halves of its draw decide whether the previous text and the times are used."""
        assert self.s2t is not None
        utterance = self.utterances[item.parts[0]]
        return s2t_targets(utterance, self.tokenizer, self.s2t, item.draw < 0.5, (2 * item.draw) % 1 < 0.5)
