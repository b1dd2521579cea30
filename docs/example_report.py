"""The report that the site shows: ``python docs/example_report.py PAGE`` writes it as one file, with its audio inside.

It is that of ``python -m parlab demo`` where ``runs/demo`` holds one, else that of a small set made here: eSpeak NG says sentences of
the AN4 kind, and the model that the repository ships decodes them three ways.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from parlab.cli import main  # noqa: E402
from parlab.commands.report import write_report  # noqa: E402
from parlab.errors import UserError  # noqa: E402
from parlab.synth.corpus import Amount, Recipe, write_corpus  # noqa: E402

DEMO = ROOT / "runs" / "demo"
SENTENCES = 24
DECODERS = {"greedy": [], "ar": [], "par": ["--decoder.threshold", "0.95"]}


def write_example(page: Path) -> None:
    """Write the report of the demo, or of the small set.

    Raises:
        UserError: a command failed.
    """
    folders = [DEMO / name for name in ("before", *DECODERS)]
    if all((folder / "metrics.json").is_file() for folder in folders):
        write_report(folders, page, "parlab demo", "embed")
        return
    # Below a folder of its own, so that the report names model and data as a reader would, and no folder of this machine.
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        Path("recipes").symlink_to(ROOT / "recipes")
        data = write_corpus(Recipe("an4", 2, 8, "test"), Path("data"), Amount(count=SENTENCES))
        for name, options in DECODERS.items():
            arguments = f"--model recipes/an4/model --data {data} --out {name} --decoder {name}".split()
            if status := main(["predict", *arguments, *options, "--wandb", "off", "--progress", "false"]):
                raise UserError(f"predict --decoder {name} ended with status {status}, expected 0; see what it printed")
        write_report([Path(name) for name in DECODERS], page, "parlab: an example", "embed")


if __name__ == "__main__":
    write_example(Path(sys.argv[1]).resolve())
