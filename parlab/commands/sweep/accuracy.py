"""The results of the points, from encoder outputs that are computed once and shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parlab.commands.sweep.grid import Point
from parlab.commands.sweep.study import Study, progress
from parlab.metrics.memory import PeakMemory
from parlab.options.signals import StopRequest
from parlab.predictions.hypotheses import UtteranceRecord, write_hypotheses
from parlab.predictions.metrics import write_metrics
from parlab.predictions.results import metrics_of
from parlab.recognition.batches import AudioBatches
from parlab.recognition.encodings import EncodedUtterances, Encodings
from parlab.recognition.finite import NO_NUMBERS, has_numbers
from parlab.types import Failure


def decode_points(study: Study, points: Sequence[Point], stop: StopRequest) -> None:
    """Decode everything with every point; write each point when it is done, and stop after one where that is asked."""
    if not points:
        return
    recognizer = study.recognizer
    model = recognizer.model
    encodings = Encodings(study.cache, study.options.memory_gib, study.options.disk_gib)
    dataset = AudioBatches(study.batches(study.utterances), model.sample_rate, model.min_samples, model.longest_seconds)
    with progress() as bar:
        task = bar.add_task("encoding", total=len(dataset))
        for i in range(len(dataset)):
            encodings.add(recognizer, dataset[i])
            bar.advance(task)
            stop.check()
        task = bar.add_task("decoding points", total=len(points))
        for point in points:
            _decode_point(study, point, encodings)
            bar.advance(task)
            stop.check()
    encodings.close()


def _decode_point(study: Study, point: Point, encodings: Encodings) -> None:
    recognizer = study.recognizer
    point.decoder.prepare(recognizer.model, recognizer.device)
    records: list[UtteranceRecord] = []
    failed = list(encodings.failed)
    largest: EncodedUtterances | None = None
    for batch in encodings.on(recognizer.device):
        if largest is None or batch.encoded.states.numel() > largest.encoded.states.numel():
            largest = batch
        found = recognizer.decode(point.decoder, batch.encoded)
        for utterance, hypothesis, duration in zip(batch.utterances, found, batch.durations, strict=True):
            if not has_numbers(hypothesis):
                failed.append(Failure(utterance.id, NO_NUMBERS))
                continue
            named = recognizer.named(hypothesis, utterance.id)
            # No seconds: cached outputs say nothing about time.
            records.append(UtteranceRecord.of(utterance, named, recognizer.tokenizer, duration))
    records.sort(key=lambda r: r.id)
    folder = study.folder(point)
    folder.mkdir(parents=True, exist_ok=True)
    write_hypotheses(folder, records)
    metrics = metrics_of(study.source(point), records, sorted(failed, key=lambda f: f.id))
    if largest is not None:
        metrics = replace(metrics, search_memory_bytes=_search_memory(study, point, largest))
    write_metrics(folder, metrics)


def _search_memory(study: Study, point: Point, batch: EncodedUtterances) -> int:
    """Peak bytes of the search alone, above the encoder's output."""
    with PeakMemory(study.recognizer.device) as peak:
        study.recognizer.decode(point.decoder, batch.encoded)
    return peak.bytes
