"""``sweep``: many settings of a decoder on one model and data set.

Accuracy comes from encoder and CTC outputs that are computed once and shared. Speed never does: every point is timed in
full on a stated sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from parlab.commands.sweep.accuracy import decode_points
from parlab.commands.sweep.grid import Point, make_points
from parlab.commands.sweep.options import SweepOptions
from parlab.commands.sweep.speed import time_points
from parlab.commands.sweep.study import Study
from parlab.metrics.tables import visible
from parlab.options.decoder_names import tuned_or
from parlab.options.devices import make_fabric
from parlab.options.libraries import quiet_libraries
from parlab.options.signals import stop_requests
from parlab.predictions.files import Json, write_json
from parlab.predictions.metrics import Metrics
from parlab.predictions.shards import claim_directory
from parlab.tracking.runs import RunOptions, SweptPoint, log_sweep


def main(argv: Sequence[str]) -> int:
    """Run ``sweep``; 0 when every utterance was decoded, 1 when some failed."""
    quiet_libraries()
    options = SweepOptions.read(argv)
    grid, listed_points, drafts = options.grid or {}, options.points or [], options.head is not None
    decoder = tuned_or(options.decoder, options.model, options.head)
    points = make_points(decoder, grid, listed_points, options.sample, options.seed, drafts)
    fabric = make_fabric(options.accelerator, options.devices)
    study = Study.of(options, fabric.device, fabric.global_rank)
    if fabric.is_global_zero:
        claim_directory(study.out, study.identity())
        listed: list[Json] = [{"name": p.name, "options": dict(p.options)} for p in points]
        write_json(
            study.out / "sweep.json", {"decoder": options.decoder, "config": options.to_json(), "points": listed}
        )
    fabric.launch()  # after the checks, so that bad input is reported once and no process waits for one that gave up
    fabric.barrier()
    own = points[fabric.global_rank :: fabric.world_size]
    with stop_requests() as stop:
        decode_points(study, [p for p in own if not study.done(p)], stop)
        fabric.barrier()  # nobody decodes while another one measures
        if options.timed_utterances > 0 and options.repeats > 0:
            time_points(study, [p for p in own if not study.timed(p)], stop)
    fabric.barrier()
    if not fabric.is_global_zero:
        return 0
    found = [(point, study.read(point)) for point in points]
    tracker = RunOptions(options.wandb, options.project, study.out)
    log_sweep(tracker, [SweptPoint(p.name, p.options, metrics) for p, metrics in found], options.wandb_layout)
    print_points(options.out, found)
    return 1 if found[0][1].failed else 0


def print_points(title: str, points: Sequence[tuple[Point, Metrics]]) -> None:
    """A table of all points; names are text, whatever they hold, and search time is per second of audio."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(visible(title)))
    table.add_column("point", overflow="fold")
    for name in ("WER", "CER", "masked", "RTFx", "with\nloading", "search\ns/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for point, metrics in points:
        rates = [f"{errors.rate:.2%}" if errors else "" for errors in (metrics.wer, metrics.cer)]
        timing = ["", "", ""]
        if metrics.speed is not None:
            share = metrics.speed.per_audio_second("search")
            loading = metrics.speed.rtfx_with_loading
            timing = [f"{metrics.speed.rtfx:.1f}", "" if loading is None else f"{loading:.1f}"]
            timing.append("" if share is None else f"{share:.3g}")
        table.add_row(Text(visible(point.name)), *rates, f"{metrics.par.masked_share:.1%}", *timing)
    Console().print(table)
