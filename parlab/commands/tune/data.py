"""The development data: divided where a promise is possible, and encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from parlab.commands.tune.options import TuneOptions
from parlab.commands.tune.trials import Laboratory
from parlab.data.checks import with_known_durations
from parlab.data.plan import prediction_batches
from parlab.data.sources import read_data
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.metrics.promise import least_units
from parlab.recognition.batches import AudioBatches
from parlab.recognition.encodings import Encodings
from parlab.recognition.recognizer import Recognizer
from parlab.text.normalizer import normalizer


def read_scored(data: str | list[str], limit: int | None = None) -> list[Utterance]:
    """Utterances, all of which have references.

    Raises:
        UserError: one has none.
    """
    utterances = with_known_durations(read_data(data, limit))
    without = [u.id for u in utterances if u.text is None]
    if without:
        raise UserError(
            f"{len(without)} of {len(utterances)} utterances have no reference ({', '.join(without[:3])}, ...), expected one "
            "each; add their texts or leave them out"
        )
    return utterances


def unit_of(utterance: Utterance, blocks: str) -> str:
    """What an utterance is drawn with: itself, or its speaker.

    Raises:
        UserError: its speaker is not known.
    """
    if blocks == "utterance":
        return utterance.id
    if not utterance.speaker:
        raise UserError(
            f"{utterance.id} has no speaker, expected one each for --blocks speaker; use --blocks utterance"
        )
    return utterance.speaker


def divide(
    utterances: Sequence[Utterance], options: TuneOptions, delta: float
) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances to search with, and those that a promise is tested on; of the latter none where they are too few for any.

    Units are divided by a hash of their names, so that no result has a say in it.
    """
    names = {unit_of(u, options.blocks) for u in utterances}
    ordered = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    least = least_units(delta, options.alpha)
    half = len(ordered) // 2
    if least is None or half < least:
        return list(utterances), []
    kept = set(ordered[:half])
    return (
        [u for u in utterances if unit_of(u, options.blocks) not in kept],
        [u for u in utterances if unit_of(u, options.blocks) in kept],
    )


def encode(options: TuneOptions, recognizer: Recognizer, utterances: Sequence[Utterance], name: str) -> Laboratory:
    """Encode utterances once.

    Args:
        name: of the folder of outputs that the memory does not hold.

    Raises:
        UserError: one of them cannot be decoded.
    """
    model = recognizer.model
    batches = prediction_batches(utterances, options.batch_size, options.batch_seconds)
    dataset = AudioBatches(batches, model.sample_rate, model.min_samples, model.longest_seconds)
    encodings = Encodings(Path(options.out) / name, options.memory_gib, options.disk_gib)
    loaded = 0.0
    start = perf_counter()
    for i in range(len(dataset)):
        batch = dataset[i]
        loaded += batch.seconds
        encodings.add(recognizer, batch)
    if encodings.failed:
        failure = encodings.failed[0]
        raise UserError(
            f"{failure.id} cannot be decoded ({failure.reason}), expected utterances that can; leave it out"
        )
    return Laboratory(recognizer, encodings, normalizer(options.normalizer), perf_counter() - start - loaded)
