"""``predict``: decode data with a model and a decoder; write hypotheses, metrics, W&B."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parlab.commands.fit.module import ASRModule
from parlab.data.plan import prediction_batches
from parlab.data.sources import read_data
from parlab.decode import Decoder, Greedy
from parlab.errors import UserError
from parlab.metrics.speed import peak_memory
from parlab.options.arguments import Parser, decoder_from, quiet_libraries
from parlab.options.devices import half_of, make_trainer
from parlab.predictions.pieces import Cutting
from parlab.predictions.provenance import describe_decoder, device_name, hash_data, hash_model, versions
from parlab.predictions.records import read_jsonl
from parlab.predictions.results import finish, print_metrics, recorded_environment
from parlab.predictions.subtitles import write_subtitles
from parlab.predictions.writer import PredictionWriter, claim_directory, forget, unfinished
from parlab.recognition.prediction import PredictionSet, make_prompting
from parlab.text.normalizer import normalizer
from parlab.tracking.runs import MODES, log_prediction, resolve_mode


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
    parser.add_argument(
        "--long_audio", type=bool, default=False, help="cut longer recordings at pauses, and join the results"
    )
    parser.add_argument(
        "--piece_seconds", type=float | None, default=None, help="longest piece; the model's window, else 20"
    )
    parser.add_argument(
        "--subtitles", type=list[str], default=[], help="also write DIR/transcripts/ID.FORMAT: srt, vtt, json"
    )
    parser.add_argument("--language", type=str | None, default=None, help="S2T: language, as eng, or auto")
    parser.add_argument("--task", type=str, default="asr", help="S2T: asr, or a translation as st_deu")
    parser.add_argument("--timestamps", type=bool, default=False, help="S2T: let ar (without CTC) write times")
    parser.add_argument("--text_prompt", type=str, default="", help="S2T: text that comes before")
    parser.add_argument("--normalizer", type=str, default="none", help="text normaliser for WER and CER")
    parser.add_argument("--limit", type=int | None, default=None, help="decode only so many utterances")
    parser.add_argument("--device", type=str | None, default=None, help="cpu, cuda, cuda:1, ...; the best by default")
    parser.add_argument(
        "--precision", type=str | None, default=None, help="32-true, bf16-true, bf16-mixed, 16-mixed, ..."
    )
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
        cutting=Cutting(options.long_audio, options.piece_seconds, tuple(options.subtitles)),
        prompt={name: getattr(options, name) for name in ("language", "task", "timestamps", "text_prompt")},
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
    cutting: Cutting = Cutting(),
    prompt: Mapping[str, Any] | None = None,
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

    Args:
        prompt: ``language``, ``task``, ``timestamps``, ``text_prompt`` for an S2T model.

    Raises:
        UserError: model or data are unusable, or ``out`` holds results of another configuration.
    """
    import torch
    from lightning.pytorch import seed_everything
    from torch.utils.data import DataLoader

    resolve_mode(wandb)  # a wrong one is told before the work and not after it
    limits = {"batch_size": batch_size, "batch_seconds": batch_seconds, "max_seconds": max_seconds, "limit": limit}
    check_limits(**limits, piece_seconds=cutting.piece_seconds)
    cutting.check()
    normalize = normalizer(normalizer_name)
    recordings = read_data(data, limit)
    if seed is not None:
        seed_everything(seed, verbose=False)
    module = ASRModule(init=model, decoder=decoder)
    module.setup("predict")
    assert module.net is not None and module.tokenizer is not None
    module.prompting = make_prompting(module.net, module.tokenizer, **(prompt or {}))
    utterances = cutting.pieces(recordings, module.net.window_seconds)
    max_seconds = min(max_seconds or math.inf, module.net.window_seconds or math.inf)
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
        "max_seconds": max_seconds if math.isfinite(max_seconds) else None,
        "long_audio": dataclasses.asdict(cutting),
        "prompt": dict(prompt or {}),
        "batch_size": batch_size,
        "batch_seconds": batch_seconds,
        "seed": seed,
        "precision": used_precision,
    }
    hashes = {"model": hash_model(module.net), "data": hash_data(utterances)}
    module.net.to_device(module.device, half_of(used_precision))
    if run.is_global_zero:
        # Batching and the number of devices change no result, so that a restart may choose others.
        identity: dict[str, Any] = {
            k: v
            for k, v in configuration.items()
            if k not in {"model", "data", "batch_size", "batch_seconds", "long_audio"}
        }
        identity["long_audio"] = [cutting.on, cutting.piece_seconds]
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
    metrics = finish(out, configuration, hashes, environment, utterances, recordings)
    if cutting.subtitles:
        write_subtitles(out / "transcripts", read_jsonl(out / "hypotheses.jsonl"), cutting.subtitles)
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
