"""``demo``: the whole path on synthetic speech, by the same code that real data takes.

Speech by eSpeak NG (test voices are not in the training), fine-tuning of the small model that the repository ships,
then greedy CTC, AR and PAR on the same utterances, a table, and a report to read.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from parlab.errors import UserError

SHIPPED_MODEL = Path(__file__).resolve().parents[2] / "recipes" / "an4" / "model"
_MARK = ".parlab-demo"
_PARTS = ("data", "fit", "before", "greedy", "ar", "par")
# part: (utterances, variants of eSpeak NG, speakers)
_CORPUS = {"train": (640, 46, 92), "dev": (40, 8, 8), "test": (100, 15, 15)}


def main(argv: Sequence[str]) -> int:
    """Run the demo; 0 when all of it worked."""
    parser = argparse.ArgumentParser(prog="python -m parlab demo", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder for everything (default runs/demo)")
    parser.add_argument("--model", type=str, default=str(SHIPPED_MODEL), help="model to start from")
    parser.add_argument("--minutes", type=float, default=3.0, help="minutes of fine-tuning (default 3)")
    parser.add_argument("--size", type=float, default=1.0, help="size of the corpus, as a factor (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of sentences, voices and training")
    parser.add_argument("--wandb", default="off", help="auto, online, offline or off (default off)")
    options = parser.parse_args(list(argv))
    return run_demo(**vars(options))


def run_demo(
    out: Path,
    model: str = str(SHIPPED_MODEL),
    minutes: float = 3.0,
    size: float = 1.0,
    seed: int = 0,
    wandb: str = "off",
) -> int:
    """The demo; returns 0, or the status of a ``fit`` that was interrupted.

    Raises:
        UserError: there is no model to start from, or ``out`` holds something else than an earlier demo.
    """
    if model == str(SHIPPED_MODEL) and not SHIPPED_MODEL.is_dir():
        raise UserError(f"there is no model in {SHIPPED_MODEL}, expected the one that parlab ships; give --model")
    claim(out)
    from rich.console import Console

    from parlab.commands.predict.command import predict
    from parlab.commands.report import write_report
    from parlab.decode import DECODERS

    start, console = time.monotonic(), Console()

    def step(text: str) -> None:
        console.print(f"\n[bold]{text}[/bold] [dim]({time.monotonic() - start:.0f} s)[/dim]")

    step("1. Speech: eSpeak NG says sentences of a small grammar; the test voices are not in the training")
    manifests = make_data(out / "data", size, seed, console)
    test = str(manifests["test"])

    step("2. Greedy CTC of the shipped model, which has not heard these voices")
    metrics = {}
    # The same code path as `python -m parlab predict`.
    metrics["before"] = predict(model, test, DECODERS["greedy"](), out / "before", wandb=wandb, progress=True)

    step(f"3. Fine-tuning (python -m parlab fit --config {out / 'fit.yaml'})")
    if status := fine_tune(out, model, manifests, minutes, seed, wandb):
        return status

    step("4. Decoding three ways")
    tuned = str(out / "fit" / "model")
    for name in ("greedy", "ar", "par"):
        metrics[name] = predict(tuned, test, DECODERS[name](), out / name, wandb=wandb, progress=True)

    found = {name: values for name, values in metrics.items() if values is not None}
    console.print()
    console.print(table(found))
    for line in examples(out / "par" / "hypotheses.jsonl"):
        console.print(line)
    write_report([out / name for name in ("before", "greedy", "ar", "par")], out / "report.html")
    console.print(f"\nwrote {out}/{{before,greedy,ar,par}}/ and {out}/report.html ({time.monotonic() - start:.0f} s)")
    return 0


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


def make_data(folder: Path, size: float, seed: int, console: Any) -> dict[str, Path]:
    """Corpora ``train``, ``dev`` and ``test`` of disjoint voices; returns their manifests."""
    from rich.progress import Progress

    from parlab.synth.corpus import Recipe, write_corpus
    from parlab.synth.espeak import VARIANTS

    variants = sorted(VARIANTS)
    Random(seed).shuffle(variants)
    manifests = {}
    with Progress(console=console) as bars:
        for number, (part, (count, voices, speakers)) in enumerate(_CORPUS.items()):
            own, variants = variants[:voices], variants[voices:]
            recipe = Recipe("demo", 3 * seed + number, speakers, part, tuple(own))
            bar = bars.add_task(f"{part:<5} {voices} voices", total=1.0)
            manifests[part] = write_corpus(
                recipe,
                folder / part,
                count=max(4, round(count * size)),
                progress=lambda done, bar=bar: bars.update(bar, completed=done),  # type: ignore[misc]
            )
    return manifests


def fine_tune(out: Path, model: str, manifests: dict[str, Path], minutes: float, seed: int, wandb: str) -> int:
    """Write ``fit.yaml`` and run ``fit`` with it; returns its status. The tuned model is in ``out/fit/model``."""
    from parlab.commands.fit.command import fit

    # The learning rate falls along the time that has passed: as many epochs as the machine can do.
    config: dict[str, Any] = {
        "seed_everything": seed + 1,
        "model": {
            "init": model,
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
        "wandb": wandb,
        "trainer": {
            "default_root_dir": str(out / "fit"),
            "max_time": {"seconds": round(minutes * 60)},
            "max_epochs": 1000,
            "log_every_n_steps": 5,
        },
    }
    path = out / "fit.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return fit(["--config", str(path)])


def table(metrics: dict[str, dict[str, Any]]) -> Any:
    """A rich table: one row per prediction."""
    from rich.table import Table

    shown = Table(title="parlab demo: synthetic test voices that are not in the training")
    shown.add_column("decoder", no_wrap=True)
    for column in ("WER", "CER", "RTFx", "search (s)", "tokens masked"):
        shown.add_column(column, justify="right")
    names = {"before": "greedy, not fine-tuned", "greedy": "greedy", "ar": "AR, joint beam", "par": "PAR"}
    for name, values in metrics.items():
        par, speed = values["par"], values["speed"]
        masked = f"{par['masked_tokens'] / max(par['tokens'], 1):.1%}" if name == "par" else "-"
        shown.add_row(
            names.get(name, name),
            f"{values['wer']['rate']:.1%}",
            f"{values['cer']['rate']:.1%}",
            f"{speed['rtfx']:.0f}",
            f"{speed['search_seconds']:.2f}",
            masked,
        )
    return shown


def examples(hypotheses: Path, count: int = 3) -> list[Any]:
    """Utterances whose draft PAR has changed, as rich texts: reference, draft, result."""
    from rich.text import Text

    lines: list[Any] = []
    for line in hypotheses.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        changed = [s for s in record["segments"] if s["draft"] != s["fill"]]
        if not changed:
            continue
        lines.append(Text.assemble("\nreference  ", record.get("ref", "")))
        lines.append(Text.assemble("PAR        ", (record["text"], "bold")))
        for segment in changed:
            draft, fill = (_readable(segment.get(key, [])) for key in ("draft_text", "fill_text"))
            lines.append(Text.assemble("           ", (draft, "red strike"), " -> ", (fill, "green")))
        if sum(str(one).startswith("\nreference") for one in lines) >= count:
            break
    return lines


def _readable(pieces: Sequence[str]) -> str:
    """Token strings as text: the marks of sentencepiece and of character models are spaces."""
    text = "".join(pieces).replace("\u2581", " ").replace("<space>", " ").strip()
    return text or "(nothing)"
