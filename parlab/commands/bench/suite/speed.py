"""Speed of whole utterances: front end, encoder, CTC head and search, against greedy CTC of the same batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from parlab.commands.bench.candidates import reference_par
from parlab.commands.bench.cases import decode_whole, make_case
from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.suite.models import Models, repeated
from parlab.commands.bench.suite.observe import memory_and_syncs
from parlab.commands.bench.suite.plan import Budget, Fields, Measurement, SpeedCase, speed_cases
from parlab.commands.bench.timing import median
from parlab.decode import AR, PAR, Decoder, Greedy, Speculative
from parlab.metrics.speed import rtfx, synchronize
from parlab.metrics.tables import Cell
from parlab.options.devices import set_tf32
from parlab.recognition.recognizer import Recognizer

_SHARE = 0.02  # of the time that is left, for the repeats of one candidate


def speed_measurements(options: BenchOptions, device: torch.device, budget: Budget) -> Iterator[Measurement]:
    """A case for every size, duration, precision and batch size."""
    models = Models(device)
    for case in speed_cases(options):

        def run(case: SpeedCase = case) -> Fields:
            set_tf32(case.precision == "tf32")
            return SpeedRun(models.get(case.size, case.precision), case, options, budget).row()

        family = f"{case.size} {case.precision} {case.seconds}"
        yield Measurement({"part": "speed", **asdict(case)}, run, cost=case.batch, family=family)


@dataclass(frozen=True)
class SpeedRun:
    """The measurements of a case."""

    recognizer: Recognizer
    case: SpeedCase
    options: BenchOptions
    budget: Budget

    @torch.inference_mode()
    def row(self) -> Fields:
        """Milliseconds of the batch, ratios to greedy, RTFx, peak memory, host synchronisations."""
        case, beam = self.case, self.options.beam
        batch = repeated(make_case(self.recognizer, case.seconds, case.masks, 1), case.batch)
        decoders: dict[str, Decoder] = {
            "greedy": Greedy(),
            "par": reference_par(beam),
            "par_joint": PAR(threshold=0.99, beam_size=beam),
            "ar": AR(beam_size=beam, maxlenratio=-batch.tokens),  # random weights never end by themselves
            "speculative": Speculative(maxlenratio=-batch.tokens),
        }
        # 1. Time.
        audio = case.batch * case.seconds
        encode = self.time(lambda: self.recognizer.encode_padded(batch.speech, batch.lengths))
        row: dict[str, Cell] = {"encode_ms": 1000 * median(encode), "repeats": len(encode)}
        for name, decoder in decoders.items():
            seconds = median(self.time(partial(decode_whole, self.recognizer, decoder, batch)))
            row |= {f"{name}_ms": 1000 * seconds, f"{name}_rtfx": rtfx(audio, seconds)}
        for name in list(decoders)[1:]:
            row[f"{name}_ratio"] = float(row[f"{name}_ms"] or 0) / float(row["greedy_ms"] or 1)
        # 2. Memory and synchronisations, which must not disturb the clock.
        for name, decoder in decoders.items():
            task = partial(decode_whole, self.recognizer, decoder, batch)
            row |= memory_and_syncs(name, task, self.recognizer.device)
        return row

    def time(self, task: Callable[[], Any]) -> list[float]:
        """Seconds of each run after a warm-up: ``repeats`` of them, or as many as a share of the time allows."""
        device = self.recognizer.device
        seconds: list[float] = []
        task()
        end = time.monotonic() + max(_SHARE * self.budget.left, 0.0)
        while not seconds or (len(seconds) < self.options.repeats and time.monotonic() < end):
            synchronize(device)
            start = time.perf_counter()
            task()
            synchronize(device)
            seconds.append(time.perf_counter() - start)
        return seconds
