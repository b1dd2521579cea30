"""The demo's speech: corpora of disjoint synthetic voices."""

from __future__ import annotations

from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import Progress

from parlab.synth.corpus import Amount, Recipe, write_corpus
from parlab.synth.espeak import VARIANTS

# part: (utterances, variants of eSpeak NG, speakers)
PARTS = {"train": (640, 46, 92), "dev": (100, 8, 8), "test": (100, 15, 15)}


def recipes(seed: int) -> dict[str, Recipe]:
    """What each part says and who says it; no voice is in two parts."""
    variants = sorted(VARIANTS)
    Random(seed).shuffle(variants)
    found = {}
    for number, (part, (_, voices, speakers)) in enumerate(PARTS.items()):
        own, variants = variants[:voices], variants[voices:]
        found[part] = Recipe("demo", 3 * seed + number, speakers, part, tuple(own))
    return found


def make_data(folder: Path, size: float, seed: int, console: Console) -> dict[str, Path]:
    """Speak ``train``, ``dev`` and ``test``, ``size`` times as large as usual; returns their manifests."""
    manifests = {}
    with Progress(console=console) as bars:
        for part, recipe in recipes(seed).items():
            count, voices, _ = PARTS[part]
            bar = bars.add_task(f"{part:<5} {voices} voices", total=1.0)
            manifests[part] = write_corpus(
                recipe,
                folder / part,
                Amount(count=max(4, round(count * size))),
                progress=lambda done, bar=bar: bars.update(bar, completed=done),  # type: ignore[misc]
            )
    return manifests
