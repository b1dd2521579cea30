"""The frozen encoder's one pass over the data, at every speed, into a store of states."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.commands.fit.head.states import StateStore, state_key
from parlab.data.audio import load_audio, resample
from parlab.data.checks import check_duration
from parlab.data.plan import prediction_batches
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.heads.reading import Speech, read_only
from parlab.recognition.padded import PaddedWaves
from parlab.recognition.recognizer import Recognizer
from parlab.types import Failure

_BATCH_SECONDS = 240.0  # padded
_NEWS_SECONDS = 60.0  # from one line about the progress to the next


@dataclass(frozen=True)
class Version:
    """An utterance at a speed: 1.1 is faster and shorter."""

    utterance: Utterance
    speed: float

    @property
    def key(self) -> str:
        """Its name in the store."""
        return state_key(self.utterance, self.speed)


def versions(utterances: Sequence[Utterance], speeds: Sequence[float], longest: float | None) -> list[Version]:
    """The utterances at every speed at which they are not longer than ``longest`` seconds; speed 1 first."""
    limit = float("inf") if longest is None else longest
    order = sorted(set(speeds) | {1.0}, key=lambda speed: (speed != 1.0, speed))
    return [Version(u, speed) for speed in order for u in utterances if (u.duration or 0.0) / speed <= limit]


@dataclass(frozen=True)
class Encoding:
    """Fills a store.

    Attributes:
        layers: what the head reads.
        batch_size: utterances that are encoded together.
        shown: whether the progress is printed.
    """

    recognizer: Recognizer
    layers: tuple[int, ...]
    store: StateStore
    batch_size: int
    shown: bool

    def fill(self, todo: Sequence[Version]) -> list[Failure]:
        """Encode what the store lacks; return what could not be loaded."""
        failed: list[Failure] = []
        start = news = time.monotonic()
        done = 0
        for speed in dict.fromkeys(version.speed for version in todo):
            utterances = [version.utterance for version in todo if version.speed == speed]
            for batch in prediction_batches(utterances, self.batch_size, _BATCH_SECONDS):
                failed += self._encode([Version(u, speed) for u in batch])
                done += len(batch)
                if self.shown and time.monotonic() - news > _NEWS_SECONDS:
                    news = time.monotonic()
                    left = (news - start) / done * (len(todo) - done) / 60
                    print(f"states of {done} of {len(todo)} utterances, {left:.0f} min left", flush=True)
        self.store.close()
        if self.shown and todo:
            print(
                f"states of {len(todo)} utterances in {(time.monotonic() - start) / 60:.1f} min: {self.store.folder}",
                flush=True,
            )
        return failed

    @torch.inference_mode()
    def _encode(self, batch: Sequence[Version]) -> list[Failure]:
        loaded: list[Version] = []
        waves: list[Tensor] = []
        failed: list[Failure] = []
        for version in batch:
            try:
                waves.append(self._wave(version))
                loaded.append(version)
            except UserError as error:
                failed.append(Failure(version.utterance.id, str(error)))
        if not waves:
            return failed
        recognizer = self.recognizer
        speech, lengths = PaddedWaves.of(waves).on(recognizer.device)
        prompts = recognizer.prompting.for_encoder(recognizer.model, len(waves))
        read = read_only(recognizer.model, Speech(speech, lengths, prompts), self.layers)
        for version, states, frames in zip(loaded, read.states, read.frames.tolist(), strict=True):
            self.store.write(version.key, states[:frames])
        return failed

    def _wave(self, version: Version) -> Tensor:
        """Samples (n,) of an utterance at its speed."""
        u, model = version.utterance, self.recognizer.model
        wave = load_audio(u.audio, model.sample_rate, u.start, u.duration, model.min_samples)
        check_duration(u, len(wave) / model.sample_rate)
        if version.speed != 1.0:  # faster is fewer samples at the same rate
            changed = resample(wave.numpy(), round(model.sample_rate * version.speed), model.sample_rate)
            wave = torch.from_numpy(changed)
        return wave
