"""Run all bad inputs and print a table; the exit status is 1 where one ends in a traceback, in silence, or unclear."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from parlab.decode import PAR, Greedy
from parlab.model.folder import write_model
from parlab.text.tokenizer import Tokenizer
from tests.bad_inputs import commands, files, heads, results, whisper
from tests.bad_inputs.case import Case, Outcome, run_case, table
from tests.helpers import manifest, noise, predict
from tests.models import tiny_model

CASES: list[Case] = [
    *commands.OPTIONS,
    *commands.DECODERS,
    *files.MANIFESTS,
    *files.KALDI,
    *files.OTHER_DATA,
    *files.AUDIO,
    *files.MODELS,
    *whisper.FOLDERS,
    *whisper.USES,
    *heads.CASES,
    *results.BROKEN,
    *results.COMPARED,
    *results.FIT,
    *results.API,
]


def prepare(folder: Path) -> None:
    """The model ``m``, the data ``d``, and the predictions ``p`` and ``q``."""
    net = tiny_model(4, sharpness=8.0)
    write_model(net, Tokenizer(net.token_list, "char"), folder / "m")
    for i in range(3):
        noise(folder / "d" / f"u{i}.wav", 0.5 + 0.2 * i, seed=i)
    entries = [{"id": f"u{i}", "audio_filepath": f"u{i}.wav", "text": "a bad"} for i in range(3)]
    data = manifest(folder / "d", entries)
    predict(folder / "m", data, Greedy(), folder / "p")
    predict(folder / "m", data, PAR(), folder / "q")


def run(cases: Iterable[Case], root: Path) -> list[Outcome]:
    """Run each case in a copy of the prepared folder."""
    prepare(root / "base")
    outcomes = []
    for i, case in enumerate(cases):
        folder = root / str(i)
        shutil.copytree(root / "base", folder)
        outcomes.append(run_case(case, folder))
        shutil.rmtree(folder, ignore_errors=True)
    return outcomes


def main() -> int:
    """The script."""
    os.environ.setdefault("WANDB_MODE", "offline")
    with tempfile.TemporaryDirectory() as root:
        outcomes = run(CASES, Path(root))
    print(table(outcomes))
    return int(any(outcome.kind != "ok" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
