"""``sweep``: many settings of a decoder on one model and data set.

Accuracy comes from encoder and CTC outputs that are computed once and shared. Speed never does: every point is
timed in full (encoder, CTC and search) on a stated sample, warm, in interleaved order, so that a slow minute of the machine
falls on all points alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from parlab.commands.sweep.encodings import EncodedBatch, Encodings, sample_of
from parlab.commands.sweep.grid import Point, make_points, split_values
from parlab.data.audio import load_audio
from parlab.data.plan import prediction_batches
from parlab.data.sources import Utterance, read_data
from parlab.decode.prompts import Prompting
from parlab.errors import UserError
from parlab.metrics.memory import PeakMemory
from parlab.metrics.speed import Stopwatch
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel
from parlab.options.arguments import Parser, quiet_libraries
from parlab.options.devices import started_by_torchrun
from parlab.predictions.provenance import describe_decoder, device_name, hash_data, hash_model, versions
from parlab.predictions.records import (
    accuracy_metrics,
    decoder_metrics,
    hypothesis_record,
    par_metrics,
    speed_metrics,
    write_json,
    write_jsonl,
)
from parlab.predictions.writer import claim_directory
from parlab.recognition.prediction import PredictionSet, decode_waves, make_prompting, readable
from parlab.text.normalizer import normalizer
from parlab.text.tokenizer import Tokenizer
from parlab.tracking.runs import MODES, log_sweep

PHASES = ("load", "encode", "ctc", "search")


def make_parser() -> Parser:
    """The options of ``sweep``."""
    parser = Parser.of(
        "sweep", "Decode data with many settings of a decoder: --decoder par --decoder.threshold 0.5,0.9"
    )
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_argument("--model", type=str, required=True, help="ESPnet folder, run folder, checkpoint or hub id")
    parser.add_argument(
        "--data", type=str | list[str], required=True, help="manifest, Kaldi folder or cuts, with references"
    )
    parser.add_argument("--out", type=str, required=True, help="folder for the results; a restart goes on there")
    parser.add_argument(
        "--decoder", type=str, default="par", help="its options take several values: --decoder.beam_size 1,5,10"
    )
    parser.add_argument("--grid", type=dict[str, Any], default={}, help="option: list of values; all combinations")
    parser.add_argument("--points", type=list[dict[str, Any]], default=[], help="settings instead of a grid")
    parser.add_argument("--sample", type=int | None, default=None, help="only so many random points")
    parser.add_argument("--seed", type=int, default=0, help="of random points and of the timed sample")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances decoded together")
    parser.add_argument("--batch_seconds", type=float, default=240.0, help="padded seconds decoded together")
    parser.add_argument(
        "--timed_utterances", type=int, default=20, help="utterances that speed is measured on; 0: none"
    )
    parser.add_argument("--repeats", type=int, default=3, help="times that each point is timed; the median counts")
    parser.add_argument("--language", type=str | None, default=None, help="S2T: language, as eng, or auto")
    parser.add_argument("--task", type=str, default="asr", help="S2T: asr, or a translation as st_deu")
    parser.add_argument("--normalizer", type=str, default="none", help="text normaliser for WER and CER")
    parser.add_argument("--limit", type=int | None, default=None, help="decode only so many utterances")
    parser.add_argument("--memory_gib", type=float, default=4.0, help="encoder outputs kept in memory")
    parser.add_argument("--disk_gib", type=float, default=50.0, help="encoder outputs memory-mapped beyond that")
    parser.add_argument("--accelerator", type=str, default="auto", help="Lightning's accelerator")
    parser.add_argument(
        "--devices", type=int | None, default=None, help="devices that share the points; 1, or torchrun's"
    )
    parser.add_argument("--wandb", type=str, default="auto", help=f"W&B: {', '.join(MODES)}")
    parser.add_argument(
        "--wandb_layout", type=str, default="table", help="one run with a table, or 'group': a run per point"
    )
    parser.add_argument("--project", type=str, default="parlab", help="W&B project")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run ``sweep``."""
    quiet_libraries()
    o = make_parser().parse_args(split_values(argv))
    points = make_points(o.decoder, o.grid or {}, o.points or [], o.sample, o.seed)
    fabric = make_fabric(o.accelerator, o.devices)
    out = Path(o.out)
    study = Study(
        o.model, o.data, out, o.normalizer, o.limit, o.batch_size, o.batch_seconds, fabric.device, fabric.global_rank
    )
    study.prompting = make_prompting(study.net, study.tokenizer, o.language, o.task)
    shared = {
        k: v for k, v in vars(o).items() if k not in {"config", "out", "devices", "accelerator", "wandb", "project"}
    }
    if fabric.is_global_zero:
        claim_directory(out, {"sweep": True, "decoder": o.decoder, **study.identity()})
        listed = [{"name": p.name, "options": dict(p.options)} for p in points]
        write_json(out / "sweep.json", {"decoder": o.decoder, "config": _plain(shared), "points": listed})
    fabric.launch()  # after the checks, so that bad input is told once and no process waits for one that gave up
    fabric.barrier()
    mine = points[fabric.global_rank :: fabric.world_size]
    study.accuracy([p for p in mine if not study.done(p)], o.memory_gib, o.disk_gib)
    fabric.barrier()  # nobody decodes while another one measures
    if o.timed_utterances > 0 and o.repeats > 0:
        study.speed([p for p in mine if not study.timed(p)], o.timed_utterances, o.repeats, o.seed)
    fabric.barrier()
    if fabric.is_global_zero:
        log_sweep(out, points, o.wandb, o.project, o.wandb_layout)
        print_points(out, points)
    failed = study.read(points[0])["failed"] if fabric.is_global_zero else []
    return 1 if failed else 0


def make_fabric(accelerator: str, devices: int | None) -> Any:
    """Lightning's Fabric, not launched yet; the processes that torchrun started share the points.

    Raises:
        UserError: torchrun started another number of processes than ``devices``.
    """
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import DDPStrategy

    # Without this each process of torchrun would take itself for the only one, and all write the same files.
    started = started_by_torchrun()
    if devices is not None and started is not None and devices != started:
        raise UserError(
            f"--devices is {devices}, but torchrun started {started} processes, expected as many; leave --devices out"
        )
    count = devices or started or 1
    # Points may take hours more than others; the process that is done would give up after half an hour of waiting.
    strategy: Any = DDPStrategy(timeout=timedelta(days=30)) if count > 1 else "auto"
    return Fabric(accelerator=accelerator, devices=count, strategy=strategy)


def _plain(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value, default=str))


class Study:
    """A model and a data set, on which points are decoded and timed."""

    def __init__(
        self,
        model: str,
        data: str | list[str],
        out: Path,
        normalizer_name: str,
        limit: int | None,
        batch_size: int,
        batch_seconds: float,
        device: torch.device,
        rank: int = 0,
    ):
        self.net: HybridModel
        self.tokenizer: Tokenizer
        self.net, self.tokenizer = read_model(model)
        self.net.to(device)
        self.prompting = Prompting()
        self.model, self.data, self.out, self.device = str(model), data, out, device
        self.cache = out / (
            f"cache{rank}" if rank else "cache"
        )  # a process would empty the mapped files that another one reads
        self.normalize = normalizer(normalizer_name)
        self.limit, self.batch_size, self.batch_seconds = limit, batch_size, batch_seconds
        self.utterances: list[Utterance] = read_data(data, limit)
        self.hashes = {"model": hash_model(self.net), "data": hash_data(self.utterances)}

    def identity(self) -> dict[str, Any]:
        """What must be the same for a restart."""
        return {
            "model_hash": self.hashes["model"],
            "data_hash": self.hashes["data"],
            "normalizer": {"name": self.normalize.name, "version": self.normalize.version},
            "limit": self.limit,
            "prompt": [self.prompting.language, self.prompting.task],
        }

    def folder(self, point: Point) -> Path:
        return self.out / "points" / point.name

    def read(self, point: Point) -> dict[str, Any]:
        """The metrics of a finished point."""
        import json

        return json.loads((self.folder(point) / "metrics.json").read_text(encoding="utf-8"))

    def done(self, point: Point) -> bool:
        """Whether all is decoded; what failed is tried again, as in ``predict``."""
        return (self.folder(point) / "metrics.json").is_file() and not self.read(point)["failed"]

    def timed(self, point: Point) -> bool:
        return "speed" in self.read(point)

    def accuracy(self, points: Sequence[Point], memory_gib: float, disk_gib: float) -> None:
        """Decode everything with every point from shared encoder outputs; write each point when it is done."""
        if not points:
            return
        encodings = Encodings(self.cache, memory_gib, disk_gib)
        batches = prediction_batches(self.utterances, self.batch_size, self.batch_seconds)
        dataset = PredictionSet(batches, self.net.sample_rate, self.net.min_samples, self.net.window_seconds)
        with _progress() as bar:
            task = bar.add_task("encoding", total=len(dataset))
            for i in range(len(dataset)):
                encodings.add(self.net, dataset[i], self.device, self.prompting)
                bar.advance(task)
            task = bar.add_task("decoding points", total=len(points))
            for point in points:
                self._decode_point(point, encodings)
                bar.advance(task)
        encodings.close()

    @torch.inference_mode()
    def _decode_point(self, point: Point, encodings: Encodings) -> None:
        untimed = {**dict.fromkeys(PHASES, 0.0), "latency": 0.0}
        records = []
        largest = None
        for batch in encodings.on(self.device):
            if largest is None or batch.states.numel() > largest.states.numel():
                largest = batch
            prompt = self.prompting.for_decoder(self.net, batch.states, batch.frames)
            found = point.decoder.decode(self.net, batch.states, batch.frames, prompt, batch.log_probs)
            for utterance, h, duration in zip(batch.utterances, found, batch.durations, strict=True):
                h = readable(h, self.net, self.tokenizer, utterance.id)
                record = hypothesis_record(utterance, h, self.tokenizer, duration, untimed)
                record.pop("timing")
                records.append({**record, "seconds": None})  # cached outputs say nothing about time
        records.sort(key=lambda r: r["id"])
        folder = self.folder(point)
        folder.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "hypotheses.jsonl", records)
        metrics = {
            "decoder": describe_decoder(point.decoder),
            "model": self.model,
            "data": self.data,
            **accuracy_metrics(records, self.normalize),
            "par": par_metrics(records),
            "counts": decoder_metrics(records),
            "utterances": len(records),
            "failed": [{"id": name, "reason": reason} for name, reason in sorted(encodings.failed)],
            "versions": versions(),
            "normalizer": {"name": self.normalize.name, "version": self.normalize.version},
            "hashes": self.hashes,
            "config": {"point": dict(point.options), "limit": self.limit},
            "search_memory_bytes": self._search_memory(point, largest) if largest is not None else None,
        }
        write_json(folder / "metrics.json", metrics)

    def _search_memory(self, point: Point, batch: EncodedBatch) -> int:
        """Peak bytes of the search alone, above the encoder's output."""
        prompt = self.prompting.for_decoder(self.net, batch.states, batch.frames)
        with PeakMemory(self.device) as peak:
            point.decoder.decode(self.net, batch.states, batch.frames, prompt, batch.log_probs)
        return peak.bytes

    def speed(self, points: Sequence[Point], size: int, repeats: int, seed: int) -> None:
        """Time every point in full on the same sample, one round of all points after the other."""
        if not points:
            return
        failed = {f["id"] for f in self.read(points[0])["failed"]}
        sample = sample_of([u for u in self.utterances if u.id not in failed], size, seed)
        rate = self.net.sample_rate
        loaded = {u.id: load_audio(u.audio, rate, u.start, u.duration, self.net.min_samples) for u in sample}
        batches = prediction_batches(sample, self.batch_size, self.batch_seconds)
        peaks: dict[str, int] = {}
        rounds: dict[str, list[list[dict[str, Any]]]] = {p.name: [] for p in points}
        with _progress() as bar:
            task = bar.add_task("timing points", total=len(points) * (repeats + 1))
            for repeat in range(repeats + 1):  # the first round warms up, and is watched for memory
                for point in points:
                    watched = PeakMemory(self.device) if repeat == 0 else nullcontext()
                    with watched:
                        rows = [row for batch in batches for row in self._time_batch(point, batch, loaded)]
                    if isinstance(watched, PeakMemory):
                        peaks[point.name] = watched.bytes
                    else:
                        rounds[point.name].append(rows)
                    bar.advance(task)
        environment = {
            "batch_size": self.batch_size,
            "precision": "32-true",
            "device": device_name(self.device),
            "num_devices": 1,
            "timed_utterances": len(sample),
            "repeats": repeats,
        }
        for point in points:
            # The median round: the one whose total time is in the middle.
            taken = sorted(rounds[point.name], key=lambda rows: sum(r["seconds"] for r in rows))
            middle = taken[len(taken) // 2]
            totals = [sum(r["seconds"] for r in rows) for rows in taken]
            spread = {
                "seconds_min": min(totals),
                "seconds_median": statistics.median(totals),
                "seconds_max": max(totals),
            }
            metrics = self.read(point)
            own = {**environment, "peak_memory_bytes": peaks[point.name]}
            metrics["speed"] = {**speed_metrics(middle, own), **spread}
            write_json(self.folder(point) / "metrics.json", metrics)

    def _time_batch(self, point: Point, batch: Sequence[Utterance], loaded: dict[str, Any]) -> list[dict[str, Any]]:
        waves = [loaded[u.id] for u in batch]
        watch = Stopwatch(self.device)
        decode_waves(self.net, point.decoder, waves, watch, self.prompting)
        durations = [len(w) / self.net.sample_rate for w in waves]
        whole, latency = sum(durations), sum(watch.seconds.values())
        rows = []
        for duration in durations:
            timing = {**dict.fromkeys(PHASES, 0.0), **{k: v * duration / whole for k, v in watch.seconds.items()}}
            rows.append(
                {"duration": duration, "timing": {**timing, "latency": latency}, "seconds": latency * duration / whole}
            )
        return rows


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
    )


def print_points(out: Path, points: Sequence[Point]) -> None:
    """A table of all points."""
    import json

    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(out))
    for name in ("point", "WER", "CER", "masked", "RTFx", "search s"):
        table.add_column(name, justify="left" if name == "point" else "right")
    for point in points:
        metrics = json.loads((out / "points" / point.name / "metrics.json").read_text(encoding="utf-8"))
        rates = [f"{metrics[k]['rate']:.2%}" if k in metrics else "" for k in ("wer", "cer")]
        par, speed = metrics["par"], metrics.get("speed")
        masked = f"{par['masked_tokens'] / max(par['tokens'], 1):.1%}"
        timing = [f"{speed['rtfx']:.1f}", f"{speed['search_seconds']:.3f}"] if speed else ["", ""]
        table.add_row(point.name, *rates, masked, *timing)
    Console().print(table)
