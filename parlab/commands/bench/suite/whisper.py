"""Whisper's shapes beside transformers: every batch size, in the first precision of the suite."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.suite.observe import memory_and_syncs
from parlab.commands.bench.suite.plan import Fields, Measurement, by_interest
from parlab.commands.bench.whisper import WhisperBench, in_precision, whisper_recognizer
from parlab.metrics.speed import rtfx
from parlab.metrics.tables import Cell
from parlab.model.families.whisper_peer import SHAPES
from parlab.options.devices import set_tf32, weights_dtype
from parlab.recognition.recognizer import Recognizer


def whisper_cases(options: BenchOptions, device: torch.device) -> Iterator[Measurement]:
    """A case for each model and batch size: those that the options name, else all shapes on a GPU and none on a CPU."""
    names = options.whisper or (list(SHAPES) if device.type == "cuda" else [])
    precision = options.precisions[0]
    made: dict[str, Recognizer] = {}  # the last one only
    for name in names:
        for batch in by_interest(options.batches):

            def run(name: str = name, batch: int = batch) -> Fields:
                set_tf32(precision == "tf32")
                if name not in made:
                    made.clear()
                    made[name] = in_precision(whisper_recognizer(name, device, options), weights_dtype(precision))
                return cells(WhisperBench.of(made[name], options, name in SHAPES, batch), options.repeats)

            about: Fields = {"part": "whisper", "model": name, "precision": precision, "batch": batch}
            yield Measurement(about, run, cost=batch, family=f"whisper {name}")


@torch.inference_mode()
def cells(bench: WhisperBench, repeats: int) -> Fields:
    """Milliseconds of the batch and real-time factors of each candidate, and how many tokens are transformers'; of ours, those with
    a draft head among them, also peak memory and host synchronisations."""
    row: dict[str, Cell] = {"tokens": bench.longest, "repeats": repeats}
    for found in bench.rows(repeats):
        name, milliseconds = _column(found.what), found.ms_per_utterance
        row[f"{name}_ms"] = milliseconds * len(bench.waves)
        row[f"{name}_rtfx"] = rtfx(found.seconds_of_audio, milliseconds / 1000)
        if found.as_transformers is not None:
            row[f"{name}_as_transformers"] = found.as_transformers
    for what, task in bench.tasks():
        if what.startswith("ours: "):
            row |= memory_and_syncs(_column(what), task, bench.recognizer.device)
    return row


def _column(what: str) -> str:
    """The name of a candidate as columns have it."""
    return what.replace(": ", "_").replace(" ", "_")
