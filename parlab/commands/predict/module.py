"""Prediction under Lightning: a module that decodes a batch, and a callback that writes it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule

from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.metrics.energy import EnergyMeter
from parlab.options.signals import StopRequest
from parlab.predictions.background import Background
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.shards import ShardEntry, ShardWriter
from parlab.recognition.batches import LoadedBatch, RecognizedBatch, recognize_batch
from parlab.recognition.recognizer import Recognizer


class PredictModule(LightningModule):
    """A recognizer and a decoder on the device that Lightning chooses."""

    def __init__(self, recognizer: Recognizer, decoder: Decoder):
        super().__init__()
        self.net = recognizer.model  # registered, so that Lightning moves it
        self.head = recognizer.head.network if recognizer.head is not None else None  # likewise
        self.recognizer, self.decoder = recognizer, decoder
        self.warm = False
        self.energy: EnergyMeter | None = None
        self.audio_seconds = 0.0  # decoded since the warm-up

    def on_predict_start(self) -> None:
        self.recognizer = replace(self.recognizer, device=self.device)
        self.energy = EnergyMeter(self.device)
        self.decoder.prepare(self.net, self.device)

    def predict_step(self, batch: LoadedBatch, index: int) -> RecognizedBatch:
        if batch.waves and not self.warm:
            self.recognizer.warm_up(self.decoder, batch.waves)
            self.warm = True
            if self.energy is not None:
                self.energy.start()
        found = recognize_batch(self.recognizer, self.decoder, batch)
        self.audio_seconds += sum(found.durations)
        return found

    @property
    def joules(self) -> float | None:
        """Energy that the device used since the warm-up; None where it does not report it."""
        return self.energy.joules() if self.energy is not None else None

    def transfer_batch_to_device(self, batch: LoadedBatch, device: torch.device, dataloader_idx: int) -> LoadedBatch:
        return batch  # the recognizer copies it, and the copy is timed


class PredictionWriter(Callback):
    """Writes every batch to the shard of its rank, in a thread while the next one is decoded; after SIGTERM none starts."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.shard: ShardWriter | None = None
        self.thread: Background | None = None
        self.stop = StopRequest()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self.shard = ShardWriter(self.directory, trainer.global_rank)
        self.shard.open()
        self.thread = Background()
        self.stop.install()  # Lightning's own handler, in force by now, ends without a word

    # 6 parameters: those of Lightning's hook
    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert self.shard is not None and self.thread is not None
        self.thread.give(partial(write_batch, self.shard, pl_module.recognizer, outputs))
        if self.stop.received:
            self.wait()
        self.stop.check()

    def wait(self) -> None:
        """Return when all that was decoded is written."""
        if self.thread is not None:
            self.thread.wait()

    @property
    def seconds(self) -> float:
        """CPU time of the thread that writes."""
        return self.thread.seconds if self.thread is not None else 0.0

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        with contextlib.suppress(UserError):  # what ended the prediction is raised, not what followed it
            self._close()

    def _close(self) -> None:
        """Write what was decoded, and give the signal back."""
        try:
            if self.thread is not None:
                self.thread.close()
        finally:
            self.stop.restore()
            if self.shard is not None:
                self.shard.close()


def write_batch(shard: ShardWriter, recognizer: Recognizer, found: RecognizedBatch) -> None:
    """Append the records of a batch to a shard."""
    tokenizer = recognizer.tokenizer
    results = zip(found.utterances, found.hypotheses, found.durations, found.timing, strict=True)
    entries = [
        ShardEntry(UtteranceRecord.of(u, recognizer.named(h, u.id), tokenizer, duration, t.decoding), t, shard.rank)
        for u, h, duration, t in results
    ]
    shard.append(entries, found.failed)
