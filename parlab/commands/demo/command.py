"""``demo``: the whole path on synthetic speech, by the same commands that real data takes.

Speech by eSpeak NG (test voices are not in the training), fine-tuning of the small model that the repository ships,
PAR's options chosen on development voices, then greedy CTC, AR and PAR on the same utterances, a table, and a report to read.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from parlab.commands.demo.choice import GRID, chosen
from parlab.commands.demo.corpus import make_data
from parlab.commands.demo.shown import examples, table
from parlab.commands.demo.steps import Stopped, run_command
from parlab.errors import UserError
from parlab.options.resources import shipped_model
from parlab.predictions.prediction import read_prediction, read_predictions

_MARK = ".parlab-demo"
_PARTS = ("data", "fit", "before", "choice", "greedy", "ar", "par")
_DECODERS = ("greedy", "ar", "par")


@dataclass(frozen=True)
class DemoOptions:
    """What the demo makes.

    Attributes:
        out: folder for everything.
        model: to start from; None is the one that parlab ships.
        minutes: of fine-tuning.
        size: of the corpus, as a factor.
        seed: of sentences, voices and training.
        wandb: W&B: auto, online, offline or off.
    """

    out: Path
    model: str | None = None
    minutes: float = 3.0
    size: float = 1.0
    seed: int = 0
    wandb: str = "off"


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 when all of it worked, else the status of the command that did not."""
    parser = argparse.ArgumentParser(prog="python -m parlab demo", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything (default runs/demo)")
    parser.add_argument("--model", type=str, default=None, help="model to start from (default: the shipped one)")
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes of fine-tuning (default 3)")
    parser.add_argument("--size", type=float, default=1.0, help="size of the corpus, as a factor (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of sentences, voices and training")
    parser.add_argument("--wandb", default="off", help="auto, online, offline or off (default off)")
    options = DemoOptions(**vars(parser.parse_args(list(argv))))
    try:
        run_demo(options, Console())
    except Stopped as stop:
        print(f"parlab: the demo stopped, the command above ended with status {stop.status}", file=sys.stderr)
        return stop.status
    return 0


def run_demo(options: DemoOptions, console: Console) -> None:
    """The whole demo.

    Raises:
        UserError: there is no model to start from, or ``out`` holds something else than an earlier demo.
        Stopped: one of its commands failed or was interrupted.
    """
    out, start = options.out, time.monotonic()
    model = options.model or str(shipped_model())
    claim(out)

    def step(text: str) -> None:
        console.print(f"\n[bold]{text}[/bold] [dim]({time.monotonic() - start:.0f} s)[/dim]")

    def predict(name: str, model: str | Path, *decoder: str) -> None:
        where = ("--model", model, "--data", manifests["test"], "--out", out / name)
        run_command(console, "predict", *where, "--decoder", *decoder, "--wandb", options.wandb)

    step("1. Speech: eSpeak NG says sentences of a small grammar; the test voices are not in the training")
    manifests = make_data(out / "data", options.size, options.seed, console)

    step("2. Greedy CTC of the shipped model, which has not heard these voices")
    predict("before", model, "greedy")

    step("3. Fine-tuning")
    run_command(console, "fit", "--config", write_fit_config(options, model, manifests))

    step("4. PAR's options, chosen on the dev voices; the test voices have no part in it")
    tuned = out / "fit" / "model"
    where = ("--model", tuned, "--data", manifests["dev"], "--out", out / "choice")
    grid = [word for name, values in GRID.items() for word in (f"--decoder.{name}", ",".join(values))]
    run_command(
        console, "sweep", *where, "--decoder", "par", *grid, "--timed_utterances", "0", "--wandb", options.wandb
    )
    best = chosen(read_predictions([out / "choice"]))

    step("5. Decoding three ways")
    for name in _DECODERS:
        given = (
            [word for option in GRID for word in (f"--decoder.{option}", str(best[option]))] if name == "par" else []
        )
        predict(name, tuned, name, *given)

    found = {name: read_prediction(out / name) for name in ("before", *_DECODERS)}
    console.print()
    console.print(table(found))
    for line in examples(found["par"]):
        console.print(line)

    step("6. A report")
    run_command(console, "report", *(out / name for name in found), "--out", out / "report.html")
    console.print(f"\nwrote {out}/{{before,greedy,ar,par}}/ and {out}/report.html ({time.monotonic() - start:.0f} s)")


def claim(out: Path) -> None:
    """Make the folder ready; an earlier demo in it is removed, anything else is left alone.

    Raises:
        UserError: the folder holds something that no demo has made.
    """
    if out.exists() and not (out / _MARK).is_file() and any(out.iterdir()):
        raise UserError(f"the folder {out} holds files of others, expected a new or empty one; give another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / _MARK).touch()
    for part in _PARTS:
        shutil.rmtree(out / part, ignore_errors=True)


def write_fit_config(options: DemoOptions, model: str, manifests: dict[str, Path]) -> Path:
    """Write ``fit.yaml``, which tunes ``model`` into ``out/fit/model``; returns its path."""
    config = {
        "seed_everything": options.seed + 1,
        "model": {
            "init": model,
            # The learning rate falls along the time that has passed: as many epochs as the machine can do.
            "optim": {"lr": 1e-3, "warmup_steps": 20, "decay": "linear", "schedule": "time"},
        },
        "data": {
            "train": str(manifests["train"]),
            "dev": str(manifests["dev"]),
            "batch_seconds": 60.0,
            "augmentation": {"speeds": [0.95, 1.0, 1.05]},
        },
        "checkpoint": {"save_top_k": 3},
        "export": {"average": 3},
        "wandb": options.wandb,
        "trainer": {
            "default_root_dir": str(options.out / "fit"),
            "max_time": {"seconds": round(options.minutes * 60)},
            "max_epochs": 1000,
            "log_every_n_steps": 5,
        },
    }
    path = options.out / "fit.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
