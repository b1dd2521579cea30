"""Which utterances a prediction decodes together, and on which rank."""

from __future__ import annotations

from collections.abc import Sequence

from parlab.data.utterance import Utterance


def prediction_batches(
    utterances: Sequence[Utterance],
    max_batch_size: int = 8,
    max_batch_seconds: float = 240.0,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[Utterance]]:
    """This rank's batches for prediction: each utterance exactly once, similar durations together.

    Batches are formed for all ranks alike, longest first, and dealt to the rank with the least padded
    seconds so far; some ranks may get none. Utterances of unknown duration count 10 s.
    """
    batches: list[list[Utterance]] = []
    longest = 0.0
    for utterance in sorted(utterances, key=lambda u: (-(u.duration or 10.0), u.id)):
        full = batches and (len(batches[-1]) >= max_batch_size or longest * (len(batches[-1]) + 1) > max_batch_seconds)
        if not batches or full:
            batches.append([])
            longest = utterance.duration or 10.0
        batches[-1].append(utterance)
    load = [0.0] * world_size
    mine = []
    for batch in batches:
        target = min(range(world_size), key=lambda r: (load[r], r))
        load[target] += len(batch) * (batch[0].duration or 10.0)
        if target == rank:
            mine.append(batch)
    return mine
