"""Prediction under Lightning: a module that decodes a batch, and a callback that writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule

from parlab.decode import Decoder
from parlab.options.signals import StopRequest
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

    def on_predict_start(self) -> None:
        self.recognizer = replace(self.recognizer, device=self.device)
        self.decoder.prepare(self.net, self.device)

    def predict_step(self, batch: LoadedBatch, index: int) -> RecognizedBatch:
        if batch.waves and not self.warm:
            self.recognizer.warm_up(self.decoder, batch.waves)
            self.warm = True
        return recognize_batch(self.recognizer, self.decoder, batch)

    def transfer_batch_to_device(self, batch: LoadedBatch, device: torch.device, dataloader_idx: int) -> LoadedBatch:
        return batch  # the recognizer copies it, and the copy is timed


class PredictionWriter(Callback):
    """Writes every batch to the shard of its rank before the next one starts; after SIGTERM none starts."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.shard: ShardWriter | None = None
        self.stop = StopRequest()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        self.shard = ShardWriter(self.directory, trainer.global_rank)
        self.shard.open()
        self.stop.install()  # Lightning's own handler, in force by now, ends without a word

    # 6 parameters: those of Lightning's hook
    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        assert self.shard is not None
        found: RecognizedBatch = outputs
        tokenizer = pl_module.recognizer.tokenizer
        entries = [
            ShardEntry(UtteranceRecord.of(u, h, tokenizer, duration, timing.decoding), timing, self.shard.rank)
            for u, h, duration, timing in zip(
                found.utterances, found.hypotheses, found.durations, found.timing, strict=True
            )
        ]
        self.shard.append(entries, found.failed)
        self.stop.check()

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _close(self) -> None:
        self.stop.restore()
        if self.shard is not None:
            self.shard.close()
