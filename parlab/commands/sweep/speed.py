"""The speed of the points, each measured in full on the same sample of the data."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from torch import Tensor

from parlab.commands.sweep.grid import Point
from parlab.commands.sweep.study import Study, progress
from parlab.data.audio import load_audio
from parlab.data.utterance import Utterance
from parlab.metrics.memory import PeakMemory
from parlab.metrics.speed import Stopwatch, share_phases
from parlab.options.signals import StopRequest
from parlab.predictions.metrics import Environment, write_metrics
from parlab.predictions.provenance import device_name
from parlab.predictions.summary import Timed, speed_of


def time_points(study: Study, points: Sequence[Point], stop: StopRequest) -> None:
    """Time every point (encoder, CTC and search), one round of all points after the other.

    The rounds are interleaved, so that a slow minute of the machine falls on all points alike. The first one warms up,
    and is watched for memory. The median round counts. Audio is loaded once, in this process: its time is the same for all points.
    """
    if not points:
        return
    options, repeats = study.options, study.options.repeats
    failed = {f.id for f in study.read(points[0]).failed}
    sample = sample_of([u for u in study.utterances if u.id not in failed], options.timed_utterances, options.seed)
    together = [[u] for u in sample] if options.latency else study.batches(sample)
    batches = [_load(study, batch) for batch in together]
    peaks: dict[str, int] = {}
    rounds: dict[str, list[list[Timed]]] = {point.name: [] for point in points}
    with progress() as bar:
        task = bar.add_task("timing points", total=len(points) * (repeats + 1))
        for repeat in range(repeats + 1):
            for point in points:
                peak = PeakMemory(study.recognizer.device) if repeat == 0 else None
                with peak or nullcontext():
                    timed = [t for waves, load in batches for t in _time_batch(study, point, waves, load)]
                if peak is not None:
                    peaks[point.name] = peak.bytes
                else:
                    rounds[point.name].append(timed)
                bar.advance(task)
                stop.check()
    for point in points:
        _write_speed(study, point, rounds[point.name], peaks[point.name], len(sample))


def sample_of(utterances: Sequence[Utterance], size: int, seed: int) -> list[Utterance]:
    """A stated sample for timing: drawn once with a seed, in a fixed order."""
    chosen = random.Random(seed).sample(list(utterances), min(size, len(utterances)))
    return sorted(chosen, key=lambda u: u.id)


def _load(study: Study, batch: Sequence[Utterance]) -> tuple[list[Tensor], float]:
    """The waveforms of a batch, each (samples,), and the seconds that loading them took."""
    model, start = study.recognizer.model, time.perf_counter()
    waves = [load_audio(u.audio, model.sample_rate, u.start, u.duration, model.min_samples) for u in batch]
    return waves, time.perf_counter() - start


def _time_batch(study: Study, point: Point, waves: Sequence[Tensor], load: float) -> list[Timed]:
    recognizer = study.recognizer
    watch = Stopwatch(recognizer.device)
    recognizer.recognize(point.decoder, waves, watch)
    durations = [recognizer.seconds(wave) for wave in waves]
    return [
        Timed(d, timing)
        for d, timing in zip(durations, share_phases({"load": load, **watch.seconds}, durations), strict=True)
    ]


def _write_speed(study: Study, point: Point, rounds: Sequence[list[Timed]], peak: int, size: int) -> None:
    """Add the median round, the one whose total time is in the middle, to the metrics of a point."""
    ordered = sorted(rounds, key=_seconds)
    totals = [_seconds(timed) for timed in ordered]
    size_of_batch = 1 if study.options.latency else study.options.batch_size
    environment = Environment(size_of_batch, "32-true", device_name(study.recognizer.device), 1, peak)
    speed = replace(
        speed_of(ordered[len(ordered) // 2], environment),
        timed_utterances=size,
        repeats=study.options.repeats,
        seconds_min=min(totals),
        seconds_median=statistics.median(totals),
        seconds_max=max(totals),
    )
    write_metrics(study.folder(point), study.read(point).with_speed(speed))


def _seconds(timed: Sequence[Timed]) -> float:
    return sum(t.timing.decoding for t in timed)
