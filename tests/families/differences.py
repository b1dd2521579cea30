"""Prints the table of differences in ``docs/models.md``: ``python -m tests.families.differences``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from tests.families import dolphin_models, firered_models, speechbrain_models, wenet_models
from tests.families.same import CPU, check_greedy, check_numbers

# Family: what writes a model's folder, the names of its models, its test.
FAMILIES: dict[str, tuple[Callable[[Path, str], dict[str, Any]], Iterable[str]]] = {
    "WeNet": (wenet_models.write_wenet, wenet_models.CONFIGS),
    "SpeechBrain": (speechbrain_models.write_speechbrain, speechbrain_models.ARGUMENTS),
    "FireRed": (firered_models.write_firered, firered_models.SEEDS),
    "Dolphin": (dolphin_models.write_dolphin, dolphin_models.SEEDS),
}


def row(family: str) -> str:
    """A line of the table."""
    write, names = FAMILIES[family]
    largest = {"encoder": 0.0, "ctc": 0.0, "decoder": 0.0}
    tokens = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            golden = write(Path(folder), name)
            recognizer = Recognizer.read(folder, CPU)
        if family == "Dolphin":
            recognizer = recognizer.asked(PromptOptions(language="zh-CN"))
        else:
            check_greedy(recognizer, golden)  # Dolphin's search is shorter by its prompt, as its test knows
        found = check_numbers(recognizer, golden)
        largest = {k: max(v, found[k]) for k, v in largest.items()}
        tokens += sum(len(golden[f"greedy{i}"]) for i in range(3))
    ctc = f"{largest['ctc']:.0e}" if largest["ctc"] else "none"
    numbers = f"{largest['encoder']:.0e} | {ctc} | {largest['decoder']:.0e}"
    return f"| {family} | {', '.join(names)} | {numbers} | {tokens} | `tests/families/test_{family.lower()}.py` |"


if __name__ == "__main__":
    for name in FAMILIES:
        print(row(name))
