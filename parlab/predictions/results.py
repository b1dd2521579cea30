"""The end of a prediction: shards merged into ``hypotheses.jsonl`` and ``metrics.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.predictions.files import Entry, Json
from parlab.predictions.hypotheses import UtteranceRecord, write_hypotheses
from parlab.predictions.joining import join_pieces
from parlab.predictions.metrics import (
    Environment,
    Hashes,
    Metrics,
    Named,
    NormalizerVersion,
    has_metrics,
    read_metrics,
    write_metrics,
)
from parlab.predictions.provenance import versions
from parlab.predictions.shards import read_shards
from parlab.predictions.summary import decoder_counts, error_rates, par_counts, speed_of
from parlab.text.normalizer import normalizer
from parlab.types import Failure


@dataclass(frozen=True)
class Source:
    """Where a prediction comes from.

    Attributes:
        model, data: as they were named.
        config: the resolved configuration.
        options: those of ``predict``, as ``rerun`` reads them; None for a point of a sweep.
    """

    decoder: Named
    model: str
    data: Json
    normalizer: NormalizerVersion
    hashes: Hashes
    config: Entry
    options: Entry | None = None


def metrics_of(source: Source, records: Sequence[UtteranceRecord], failed: Sequence[Failure]) -> Metrics:
    """The metrics of a prediction, without figures of speed."""
    wer, cer = error_rates(records, normalizer(source.normalizer.name))
    return Metrics(
        decoder=source.decoder,
        model=source.model,
        data=source.data,
        wer=wer,
        cer=cer,
        par=par_counts(records),
        counts=decoder_counts(records),
        utterances=len(records),
        scored=sum(r.ref is not None for r in records),
        failed=tuple(failed),
        versions=versions(),
        normalizer=source.normalizer,
        hashes=source.hashes,
        config=source.config,
        options=source.options,
    )


def finish(
    out: Path,
    source: Source,
    environment: Environment,
    utterances: Sequence[Utterance],
    recordings: Sequence[Utterance],
) -> tuple[Metrics, list[UtteranceRecord]]:
    """Merge the shards, and the pieces of long recordings; write both files and return their content.

    Args:
        utterances: what was decoded: the recordings, or pieces of them.

    Raises:
        UserError: an utterance is in no shard, as when another process wrote into the folder at the same time.
    """
    entries, failed = read_shards(out)
    wanted = {u.id for u in utterances}
    missing = sorted(wanted - {entry.record.id for entry in entries} - {f.id for f in failed})
    if missing:
        raise UserError(
            f"{len(missing)} of {len(wanted)} utterances were not decoded ({', '.join(missing[:3])}, ...), expected all: "
            f"does another process write to {out}? start the same command again"
        )
    joined = join_pieces([entry for entry in entries if entry.record.id in wanted], recordings, utterances)
    records = [entry.record for entry in joined]
    metrics = metrics_of(source, records, [f for f in failed if f.id in wanted])
    metrics = metrics.with_speed(speed_of([entry.timed for entry in joined], environment))
    write_hypotheses(out, records)
    write_metrics(out, metrics)  # last: a folder with metrics is complete
    return metrics, records


def recorded_environment(out: Path) -> Environment:
    """Device, precision and memory as an earlier run in ``out`` recorded them; unknown without one."""
    if not has_metrics(out):
        return Environment()
    try:
        speed = read_metrics(out).speed
    except UserError:  # half written by another program: it is written anew
        return Environment()
    return speed.environment if speed is not None else Environment()
