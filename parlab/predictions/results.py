"""The end of a prediction: shards merged into ``hypotheses.jsonl`` and ``metrics.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.data.sources import Utterance
from parlab.errors import UserError
from parlab.predictions.pieces import join_pieces
from parlab.predictions.provenance import versions
from parlab.predictions.records import (
    accuracy_metrics,
    decoder_metrics,
    par_metrics,
    speed_metrics,
    write_json,
    write_jsonl,
)
from parlab.predictions.writer import read_shards
from parlab.text.normalizer import normalizer

# Keys that only the metrics need; ``hypotheses.jsonl`` is the same whatever made it, timing aside.
_INTERNAL = ("timing", "rank")


def recorded_environment(out: Path) -> dict[str, Any]:
    """Device, precision and memory as an earlier run in ``out`` wrote them; empty without one."""
    try:
        speed = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["speed"]
    except (OSError, ValueError, KeyError):
        return {"peak_memory_bytes": None}
    return {k: speed.get(k) for k in ("peak_memory_bytes", "batch_size", "precision", "device", "num_devices")}


def finish(
    out: Path,
    configuration: dict[str, Any],
    hashes: dict[str, str],
    environment: dict[str, Any],
    utterances: Sequence[Utterance],
    recordings: Sequence[Utterance],
) -> dict[str, Any]:
    """Merge the shards into ``hypotheses.jsonl`` and ``metrics.json``, and the pieces of long recordings.

    Raises:
        UserError: an utterance is in no shard, as when another process wrote into the folder at the same time.
    """
    records, failed = read_shards(out)
    wanted = {u.id for u in utterances}
    missing = sorted(wanted - {r["id"] for r in records} - {f["id"] for f in failed})
    if missing:
        raise UserError(
            f"{len(missing)} of {len(wanted)} utterances were not decoded ({', '.join(missing[:3])}, ...), expected all: "
            f"does another process write to {out}? start the same command again"
        )
    records = [r for r in records if r["id"] in wanted]
    failed = [f for f in failed if f["id"] in wanted]
    records = join_pieces(records, recordings, utterances)
    normalize = normalizer(configuration["normalizer"]["name"])
    metrics: dict[str, Any] = {
        "decoder": configuration["decoder"],
        "model": configuration["model"],
        "data": configuration["data"],
        **accuracy_metrics(records, normalize),
        "speed": speed_metrics(records, environment),
        "par": par_metrics(records),
        "counts": decoder_metrics(records),
        "utterances": len(records),
        "failed": failed,
        "versions": versions(),
        "normalizer": configuration["normalizer"],
        "hashes": hashes,
        "config": configuration,
    }
    public = [{k: v for k, v in r.items() if k not in _INTERNAL} for r in records]
    write_jsonl(out / "hypotheses.jsonl", public)
    write_json(out / "metrics.json", metrics)
    return metrics


def print_metrics(metrics: dict[str, Any], out: Path) -> None:
    """A line for people."""
    parts = [metrics["decoder"]["name"]]
    for name in ("wer", "cer"):
        if name in metrics:
            parts.append(
                f"{name.upper()} {metrics[name]['rate']:.2%} ({metrics[name]['errors']}/{metrics[name]['total']})"
            )
    speed, par = metrics["speed"], metrics["par"]
    parts.append(f"RTFx {speed['rtfx']:.1f}")
    parts.append(f"search {speed['search_seconds']:.2f} s of {speed['audio_seconds']:.0f} s audio")
    if par["segments"]:
        parts.append(f"{par['masked_tokens'] / max(par['tokens'], 1):.1%} of tokens masked")
    print(" | ".join(parts))
    print(f"wrote {out}/hypotheses.jsonl and {out}/metrics.json")
    for entry in metrics["failed"]:
        print(f"failed: {entry['id']}: {entry['reason']}", file=sys.stderr)
