"""``predict``: decode data with a model and a decoder; write hypotheses, metrics, W&B."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.data.batches import prediction_batches
from parlab.data.sources import Utterance, read_data
from parlab.data.text import normalizer
from parlab.decode import Decoder, Greedy
from parlab.errors import UserError
from parlab.experiment.arguments import Parser, decoder_from, quiet_libraries
from parlab.experiment.devices import half_of, make_trainer
from parlab.experiment.module import ASRModule
from parlab.experiment.prediction import PredictionSet
from parlab.experiment.provenance import describe_decoder, device_name, hash_data, hash_model, versions
from parlab.experiment.records import (
    accuracy_metrics,
    decoder_metrics,
    par_metrics,
    speed_metrics,
    write_json,
    write_jsonl,
)
from parlab.experiment.tracking import MODES, log_prediction, resolve_mode
from parlab.experiment.writer import PredictionWriter, claim_directory, forget, read_shards, unfinished
from parlab.metrics.speed import peak_memory

# Keys that only the metrics need; ``hypotheses.jsonl`` is the same whatever made it, timing aside.
_INTERNAL = ("timing", "rank")


def make_parser() -> Parser:
    """The options of ``predict``."""
    from lightning.pytorch import Trainer

    parser = Parser.of("predict", "Decode data with a model; write DIR/hypotheses.jsonl and DIR/metrics.json.")
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument("--model", type=str, required=True, help="ESPnet folder, run folder, checkpoint or hub id")
    parser.add_argument("--data", type=str | list[str], required=True, help="manifest, Kaldi folder, cuts or audio")
    parser.add_argument("--out", type=str, required=True, help="folder for the results; a restart goes on there")
    parser.add_subclass_arguments(Decoder, "decoder", required=False, help="greedy, ar, par, ...")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances decoded together")
    parser.add_argument("--batch_seconds", type=float, default=240.0, help="padded seconds decoded together")
    parser.add_argument("--max_seconds", type=float, default=120.0, help="longest audio that is decoded in one piece")
    parser.add_argument("--normalizer", type=str, default="none", help="text normaliser for WER and CER")
    parser.add_argument("--limit", type=int | None, default=None, help="decode only so many utterances")
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, cuda:1, ...; the best by default")
    parser.add_argument("--precision", type=str | None, default=None, help="32-true, bf16-true, bf16-mixed, 16-mixed, ...")
    parser.add_argument("--workers", type=int, default=0, help="processes that load audio")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random generator")
    parser.add_argument("--wandb", type=str, default="auto", help=f"W&B: {', '.join(MODES)}")
    parser.add_argument("--project", type=str, default="parlab", help="W&B project")
    parser.add_argument("--progress", type=bool, default=True, help="show a progress bar")
    parser.add_lightning_class_args(Trainer, "trainer")
    defaults = {"trainer.logger": False, "trainer.enable_checkpointing": False, "trainer.enable_model_summary": False}
    parser.set_defaults({**defaults, "trainer.devices": 1, "trainer.use_distributed_sampler": False})
    return parser


def main(argv: Sequence[str]) -> int:
    """Run ``predict``; 0 when every utterance was decoded, 1 when some failed."""
    quiet_libraries()
    parser = make_parser()
    options = parser.read(argv)
    decoder = decoder_from(options.decoder) or Greedy()
    metrics = predict(
        model=options.model,
        data=options.data,
        decoder=decoder,
        out=Path(options.out),
        batch_size=options.batch_size,
        batch_seconds=options.batch_seconds,
        max_seconds=options.max_seconds,
        normalizer_name=options.normalizer,
        limit=options.limit,
        workers=options.workers,
        seed=options.seed,
        wandb=options.wandb,
        project=options.project,
        progress=options.progress,
        device=options.device,
        precision=options.precision,
        trainer=vars(options.trainer),
    )
    if metrics is None:  # another rank writes and reports
        return 0
    print_metrics(metrics, Path(options.out))
    return 1 if metrics["failed"] else 0


def predict(
    model: str,
    data: str | list[str],
    decoder: Decoder,
    out: Path,
    batch_size: int = 8,
    batch_seconds: float = 240.0,
    max_seconds: float | None = 120.0,
    normalizer_name: str = "none",
    limit: int | None = None,
    workers: int = 0,
    seed: int = 0,
    wandb: str = "off",
    project: str = "parlab",
    progress: bool = False,
    device: str | None = None,
    precision: str | None = None,
    trainer: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Decode ``data`` with ``model`` into the folder ``out``; return the metrics (None on ranks but the first).

    A second call with the same arguments keeps what is done and does the rest.

    Raises:
        UserError: model or data are unusable, or ``out`` holds results of another configuration.
    """
    import torch
    from lightning.pytorch import seed_everything
    from torch.utils.data import DataLoader

    resolve_mode(wandb)  # a wrong one is told before the work and not after it
    check_limits(batch_size=batch_size, batch_seconds=batch_seconds, max_seconds=max_seconds, limit=limit)
    normalize = normalizer(normalizer_name)
    utterances = read_data(data, limit)
    if seed is not None:
        seed_everything(seed, verbose=False)
    module = ASRModule(init=model, decoder=decoder)
    module.setup("predict")
    assert module.net is not None
    callbacks: list[Any] = [PredictionWriter(out)]
    if progress:
        from lightning.pytorch.callbacks import RichProgressBar

        callbacks.append(RichProgressBar())
    run, used_precision = make_trainer(trainer or {}, device, precision, callbacks, progress)
    configuration = {
        "model": str(model),
        "data": data,
        "decoder": describe_decoder(decoder),
        "normalizer": {"name": normalize.name, "version": normalize.version},
        "limit": limit,
        "max_seconds": max_seconds,
        "batch_size": batch_size,
        "batch_seconds": batch_seconds,
        "seed": seed,
        "precision": used_precision,
    }
    hashes = {"model": hash_model(module.net), "data": hash_data(utterances)}
    module.net.to_device(module.device, half_of(used_precision))
    if run.is_global_zero:
        # Batching and the number of devices change no result, so that a restart may choose others.
        identity = {k: v for k, v in configuration.items() if k not in {"model", "data", "batch_size", "batch_seconds"}}
        identity["parlab"] = versions()["parlab"]
        claim_directory(out, {**identity, "model_hash": hashes["model"], "data_hash": hashes["data"]})
    # Every rank finds the same, also while the first one tidies up, because only what is done anew is dropped.
    todo = unfinished(out, prediction_batches(utterances, batch_size, batch_seconds))
    if run.is_global_zero:
        forget(out, todo)
    rank, world = run.global_rank, run.world_size
    mine = prediction_batches(utterances, batch_size, batch_seconds, rank, world)
    batches = [batch for batch in mine if batch[0].id in todo]
    # Lightning wants a batch on every rank, so one without work gets an empty one.
    dataset = PredictionSet(batches or [[]], module.net.sample_rate, module.net.min_samples, max_seconds)
    loader = DataLoader(dataset, batch_size=None, shuffle=False, num_workers=workers)
    place = run.strategy.root_device
    environment = {
        "batch_size": batch_size,
        "precision": used_precision,
        "device": device_name(place),
        "num_devices": world,
    }
    if todo:
        run.predict(module, loader, return_predictions=False)
        run.strategy.barrier("predicted")
        peak = torch.tensor(peak_memory(place), device=place)
        environment["peak_memory_bytes"] = int(run.strategy.reduce(peak, reduce_op="max"))
    else:  # nothing was left to do: the figures are those of the run that did it
        environment |= recorded_environment(out)
    if not run.is_global_zero:
        return None
    metrics = finish(out, configuration, hashes, environment, utterances)
    log_prediction(out, metrics, wandb, project, normalize)
    return metrics


def check_limits(**limits: float | None) -> None:
    """Refuse limits that leave nothing to do.

    Raises:
        UserError: one is not above 0.
    """
    for name, value in limits.items():
        if value is not None and not value > 0:
            raise UserError(f"the option {name} is {value}, expected more than 0; correct it")


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
) -> dict[str, Any]:
    """Merge the shards into ``hypotheses.jsonl`` and ``metrics.json``.

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
            parts.append(f"{name.upper()} {metrics[name]['rate']:.2%} ({metrics[name]['errors']}/{metrics[name]['total']})")
    speed, par = metrics["speed"], metrics["par"]
    parts.append(f"RTFx {speed['rtfx']:.1f}")
    parts.append(f"search {speed['search_seconds']:.2f} s of {speed['audio_seconds']:.0f} s audio")
    if par["segments"]:
        parts.append(f"{par['masked_tokens'] / max(par['tokens'], 1):.1%} of tokens masked")
    print(" | ".join(parts))
    print(f"wrote {out}/hypotheses.jsonl and {out}/metrics.json")
    for entry in metrics["failed"]:
        print(f"failed: {entry['id']}: {entry['reason']}", file=sys.stderr)
