"""Batches of utterances: loaded in workers, decoded by a recognizer; a broken file costs that file only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import Dataset

from parlab.data.audio import load_audio
from parlab.data.checks import check_duration
from parlab.data.utterance import Utterance
from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.metrics.speed import Stopwatch, Timing, share_phases
from parlab.recognition.padded import PaddedWaves
from parlab.recognition.recognizer import Recognizer
from parlab.types import Failure, Hypothesis


@dataclass(frozen=True)
class LoadedBatch:
    """A batch with its audio.

    Attributes:
        waves: of the utterances, in one tensor: a worker passes one file descriptor a batch, not one an utterance.
        utterances: those that were loaded.
        failed: those that were not.
        seconds: that loading and padding took.
    """

    waves: PaddedWaves
    utterances: list[Utterance]
    failed: list[Failure]
    seconds: float

    def pin_memory(self) -> LoadedBatch:
        """The batch in page-locked memory; the data loader calls this where a CUDA device is fed."""
        return replace(self, waves=self.waves.pin_memory())


@dataclass(frozen=True)
class RecognizedBatch:
    """Results of a batch, in its order.

    Attributes:
        durations: seconds of audio of each utterance.
        timing: each utterance's share of the phases.
        failed: utterances without a result.
    """

    utterances: list[Utterance]
    hypotheses: list[Hypothesis]
    durations: list[float]
    timing: list[Timing]
    failed: list[Failure]


class AudioBatches(Dataset):
    """Loads batches of utterances on demand.

    Args:
        sample_rate: samples per second of the waveforms.
        min_samples: fewest samples that are usable.
        max_seconds: longest audio that is decoded in one piece, or None.
    """

    def __init__(
        self, batches: Sequence[Sequence[Utterance]], sample_rate: int, min_samples: int, max_seconds: float | None
    ):
        self.batches = batches
        self.sample_rate, self.min_samples, self.max_seconds = sample_rate, min_samples, max_seconds

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> LoadedBatch:
        watch = Stopwatch(torch.device("cpu"))
        waves: list[Tensor] = []
        loaded: list[Utterance] = []
        failed: list[Failure] = []
        with watch.phase("load"):
            for u in self.batches[index]:
                try:
                    wave = load_audio(
                        u.audio, self.sample_rate, u.start, u.duration, self.min_samples, self.max_seconds
                    )
                    check_duration(u, len(wave) / self.sample_rate)
                except UserError as error:
                    failed.append(Failure(u.id, str(error)))
                    continue
                waves.append(wave)
                loaded.append(u)
            padded = PaddedWaves.of(waves)
        return LoadedBatch(padded, loaded, failed, watch.seconds["load"])


def recognize_batch(recognizer: Recognizer, decoder: Decoder, batch: LoadedBatch) -> RecognizedBatch:
    """Decode a loaded batch; what fits no memory, and what has scores that are no numbers, is among the failed."""
    if not batch.waves:
        return RecognizedBatch([], [], [], [], batch.failed)
    watch = Stopwatch(recognizer.device)
    found = recognizer.recognize(decoder, batch.waves, watch)
    utterances, hypotheses, durations, failed = [], [], [], list(batch.failed)
    for u, wave, hypothesis in zip(batch.utterances, batch.waves, found, strict=True):
        if isinstance(hypothesis, Failure):
            failed.append(Failure(u.id, hypothesis.reason))
            continue
        utterances.append(u)
        hypotheses.append(recognizer.named(hypothesis, u.id))
        durations.append(recognizer.seconds(wave))
    timing = share_phases({"load": batch.seconds, **watch.seconds}, durations)
    return RecognizedBatch(utterances, hypotheses, durations, timing, failed)
