"""The ``bench`` command: cases, ratios, a table, JSON, CSV and a picture."""

from __future__ import annotations

import logging
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from parlab.commands.bench.candidates import (
    bare_candidates,
    espnet_candidates,
    our_candidates,
    reference_par,
    stage_candidates,
)
from parlab.commands.bench.sizes import SIZES, Input, make_input, random_model
from parlab.commands.bench.speech import speech_rows
from parlab.commands.bench.timing import median, time_in_turn
from parlab.commands.report.page import write_csv
from parlab.decode import Decoder, Greedy
from parlab.errors import UserError, nearest
from parlab.metrics.memory import PeakMemory
from parlab.model.hybrid import HybridModel
from parlab.options.arguments import Parser, quiet_libraries
from parlab.options.devices import device_for
from parlab.predictions.provenance import device_name, versions
from parlab.predictions.records import write_json

CASES = ((5.0, 6), (10.0, 12), (20.0, 18), (30.0, 27))  # seconds of audio, masks


def main(argv: Sequence[str]) -> int:
    """Run ``bench``."""
    quiet_libraries()
    parser = Parser.of("bench", "Time our decoders and ESPnet's, same weights, same input, in one run.")
    parser.add_argument("--size", type=str, default="librispeech256", help=f"random model: {', '.join(SIZES)}")
    parser.add_argument("--seconds", type=list[float], default=[], help="durations (default 5, 10, 20, 30)")
    parser.add_argument("--batch", type=int, default=8, help="utterances of the batched rows")
    parser.add_argument("--beam", type=int, default=10, help="beam size")
    parser.add_argument("--parallel", type=list[int], default=[-1], help="values of max_mask_parallel")
    parser.add_argument(
        "--repeats", type=int, default=5, help="timed runs of ours after one warm-up; the median counts"
    )
    parser.add_argument(
        "--espnet_repeats", type=int, default=5, help="timed runs of ESPnet's after one warm-up; 0: leave out"
    )
    parser.add_argument(
        "--model", type=str | None, default=None, help="a trained model: whole utterances against greedy"
    )
    parser.add_argument("--data", type=str | None, default=None, help="speech for --model, joined to about 20 s")
    parser.add_argument("--device", type=str | None, default=None, help="cpu or cuda")
    parser.add_argument("--threads", type=int | None, default=None, help="CPU threads")
    parser.add_argument("--out", type=str, default="runs/bench", help="folder for bench.json, bench.csv, bench.png")
    o = parser.parse_args(list(argv))
    if o.size not in SIZES:
        raise UserError(f"there is no size '{o.size}', expected one of {', '.join(SIZES)}{nearest(o.size, SIZES)}")
    logging.disable(logging.WARNING)  # ESPnet logs at the root: random weights reach every limit; it says so each time
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(o.threads or threads)
        return run(o)
    finally:
        torch.set_num_threads(threads)
        logging.disable(logging.NOTSET)


def run(o: Any) -> int:
    """Time the cases that the options ask for, and write the files."""
    device = device_for(o.device)
    out = Path(o.out)
    out.mkdir(parents=True, exist_ok=True)
    if o.model:
        if not o.data:
            raise UserError("bench got --model without --data, expected speech to decode; name a manifest")
        rows = speech_rows(o.model, o.data, o.batch, o.repeats, device)
    else:
        wanted = o.seconds or [seconds for seconds, _ in CASES]
        masks = dict(CASES)
        rows = []
        model = random_model(o.size).to(device)
        for seconds in wanted:
            count = masks.get(seconds, max(1, int(0.9 * seconds)))
            rows += case_rows(model, seconds, count, o.batch, o.beam, o.parallel, o.repeats, o.espnet_repeats, device)
            _save(out, o, rows, device)
    _save(out, o, rows, device)
    _print(rows)
    print(f"wrote {out}/bench.json, bench.csv and bench.png")
    return 0


def _save(out: Path, o: Any, rows: list[dict[str, Any]], device: torch.device) -> None:
    """Write after each case: an interrupted bench keeps what it measured."""
    options = {k: v for k, v in vars(o).items() if k not in {"config"}}
    machine = {"device": device_name(device), "platform": platform.platform(), "threads": torch.get_num_threads()}
    write_json(out / "bench.json", {"options": options, "machine": machine, "versions": versions(), "rows": rows})
    write_csv(out / "bench.csv", rows)
    _draw(out / "bench.png", rows)


@torch.inference_mode()
def case_rows(
    model: HybridModel,
    seconds: float,
    masks: int,
    batch: int,
    beam: int,
    parallel: Sequence[int],
    repeats: int,
    espnet_repeats: int,
    device: torch.device,
) -> list[dict[str, Any]]:
    """All candidates on one duration: a row each, with seconds per utterance of the search, and ratios to our PAR."""
    one = _to(make_input(model, seconds, masks, 1), device)
    many = _to(make_input(model, seconds, masks, batch), device) if batch > 1 else None
    candidates = [
        *our_candidates(model, one, many, beam, parallel, repeats),
        *espnet_candidates(model, one, beam, espnet_repeats),
        *bare_candidates(model, one, masks, beam, repeats),
        *(c for x in (one, many) if x is not None for c in stage_candidates(model, x, repeats)),
    ]
    taken = time_in_turn({c.name: c.task for c in candidates}, {c.name: c.repeats for c in candidates}, device)
    memory = {
        name: whole_peak(model, decoder, one, device)
        for name, decoder in (("greedy", Greedy()), ("par", reference_par(beam)))
    }
    rows = []
    mine = 1000 * median(taken["ours: par"])
    for candidate in candidates:
        values = [1000 * v / candidate.batch for v in taken[candidate.name]]
        row: dict[str, Any] = {
            "seconds_of_audio": seconds,
            "masks": masks,
            "tokens": one.tokens,
            "what": candidate.name,
            "batch": candidate.batch,
            "ms_per_utterance": median(values),
            "times_par": median(values) / mine,
            "min_ms": min(values),
            "max_ms": max(values),
            "repeats": len(values),
        }
        rows.append(row)
    return rows + whole_rows(rows, seconds, masks, memory)


def whole_peak(model: HybridModel, decoder: Decoder, x: Input, device: torch.device) -> int:
    """Peak bytes of a whole utterance above what was held before, the weights' among it."""
    with PeakMemory(device) as peak:
        states, lengths = model.encode(x.speech, torch.tensor([x.speech.size(1)], device=device))
        log_probs = model.ctc_log_probs(states)
        decoder.decode(model, x.states, x.lengths, None, x.log_probs)  # on its own posteriors, for their masks
        del states, lengths, log_probs  # held until here, as they are in a decoding
    return peak.bytes


def whole_rows(
    rows: Sequence[dict[str, Any]], seconds: float, masks: int, memory: dict[str, int]
) -> list[dict[str, Any]]:
    """Whole utterances (front end, encoder, CTC, search) of PAR against greedy; peak memory at batch 1."""
    ms = {row["what"]: row["ms_per_utterance"] for row in rows}
    found = []
    for suffix in ("", ", batch"):
        if f"ours: par{suffix}" not in ms:
            continue
        shared = ms[f"encoder and front end{suffix}"] + ms[f"ctc head{suffix}"]
        greedy, par = shared + ms[f"ours: greedy{suffix}"], shared + ms[f"ours: par{suffix}"]
        found.append(
            {
                "seconds_of_audio": seconds,
                "masks": masks,
                "what": f"whole utterance: par / greedy{suffix}",
                "ms_per_utterance": par,
                "greedy_ms": greedy,
                "ratio": par / greedy,
                **(_memory_ratio(memory) if not suffix else {}),
            }
        )
    return found


def _memory_ratio(memory: dict[str, int]) -> dict[str, float]:
    par, greedy = memory["par"], memory["greedy"]
    return {"peak_bytes": par, "greedy_peak_bytes": greedy, "peak_ratio": par / greedy}


def _to(x: Input, device: torch.device) -> Input:
    return Input(x.states.to(device), x.lengths.to(device), x.log_probs.to(device), x.speech.to(device), x.tokens)


def _print(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="search time per utterance, and in multiples of our PAR at batch 1")
    for name in ("audio", "masks", "what", "ms", "x par"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        ratio = row.get("times_par", row.get("ratio"))
        table.add_row(
            f"{row['seconds_of_audio']:.0f} s",
            str(row["masks"]),
            row["what"],
            f"{row['ms_per_utterance']:.1f}",
            f"{ratio:.2f}",
        )
    Console().print(table)


def _draw(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    from matplotlib.figure import Figure

    from parlab.commands.report.figures import COLORS

    figure = Figure(figsize=(7, 4.2), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    names = [
        n
        for n in dict.fromkeys(r["what"] for r in rows)
        if n.startswith(("ours: par", "ours: ar joint", "espnet", "ours: greedy", "bare"))
    ]
    for color, name in zip(COLORS * 3, names, strict=False):
        mine = [r for r in rows if r["what"] == name]
        style = "--" if name.startswith("espnet") else ":" if name.startswith("bare") else "-"
        xs, ys = [r["seconds_of_audio"] for r in mine], [r["ms_per_utterance"] for r in mine]
        axes.plot(xs, ys, style, marker="o", ms=4, color=color, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("audio (s)")
    axes.set_ylabel("search time per utterance (ms)")
    axes.grid(alpha=0.25)
    if names:
        axes.legend(frameon=False, fontsize=7)
    figure.savefig(path)
