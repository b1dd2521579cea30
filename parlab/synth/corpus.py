"""A corpus of synthetic speech: sentences of a grammar, spoken by eSpeak NG, as FLAC files and a JSONL manifest.

    python -m parlab.synth --grammar an4 --hours 1 --out DIR --seed 0

The same arguments make the same corpus: every utterance has its own random generator, made of the seed and its number.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from parlab.errors import UserError, nearest
from parlab.synth.effects import augment
from parlab.synth.espeak import ACCENTS, VARIANTS, Voice, speak
from parlab.synth.grammar import GRAMMARS, spoken

SAMPLE_RATE = 16000
_CHUNK = 16  # utterances per task; more are made than are needed, by less than one chunk per worker


@dataclass(frozen=True)
class Speaker:
    """A name and a voice; its rate and pitch wander a little from sentence to sentence."""

    name: str
    voice: Voice


@dataclass(frozen=True)
class Recipe:
    """The content of a corpus.

    Attributes:
        grammar: of the sentences, one of ``GRAMMARS``.
        seed: of sentences, voices and augmentation.
        speakers: their number; ``prefix`` starts their names.
        variants: of eSpeak NG; corpora of disjoint variants have disjoint voices.
        plain: leave out the augmentation.
    """

    grammar: str = "an4"
    seed: int = 0
    speakers: int = 200
    prefix: str = "syn"
    variants: tuple[str, ...] = tuple(VARIANTS)
    plain: bool = False


@dataclass(frozen=True)
class Amount:
    """The size of a corpus, in hours or in utterances.

    Raises:
        UserError: neither or both are given.
    """

    hours: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if (self.hours is None) == (self.count is None) or (self.hours or self.count or 0) <= 0:
            raise UserError(f"got hours={self.hours} and count={self.count}, expected one of them above 0; give one")

    def share(self, utterances: int, seconds: float) -> float:
        """The share of the corpus that so many utterances, of so many seconds in all, are."""
        return utterances / self.count if self.count else seconds / (3600 * (self.hours or 1.0))


def speakers_of(recipe: Recipe) -> list[Speaker]:
    """The recipe's speakers: every variant is used before one is used twice."""
    random = Random(f"speakers {recipe.seed}")
    variants = list(recipe.variants)
    random.shuffle(variants)
    found = []
    for index in range(recipe.speakers):
        accent = random.choices(ACCENTS, [10, 2, *[1] * (len(ACCENTS) - 2)])[0]
        voice = Voice(
            accent,
            variants[index % len(variants)],
            rate=random.randint(120, 240),
            pitch=random.randint(15, 85),
            pitch_range=random.randint(20, 80),
            word_gap=random.choice([0, 0, 0, 1, 2, 4, 8]),
        )
        found.append(Speaker(f"{recipe.prefix}{index:03d}", voice))
    return found


def utterance(recipe: Recipe, speakers: Sequence[Speaker], index: int) -> tuple[dict[str, Any], np.ndarray]:
    """Utterance number ``index``: its manifest entry (without the path) and float32 (samples,) at 16 kHz."""
    random = Random(f"{recipe.seed} {index}")
    text = GRAMMARS[recipe.grammar](random)
    speaker = speakers[random.randrange(len(speakers))]
    voice = replace(
        speaker.voice,
        # People spell more slowly than they speak: AN4's letters take 0.44 s, its words 0.47 s in the median.
        rate=max(80, int(speaker.voice.rate * random.uniform(0.85, 1.15) * (1 - 0.3 * _share_spelled(text)))),
        pitch=min(99, max(0, speaker.voice.pitch + random.randint(-8, 8))),
    )
    wave = speak(spoken(text), voice, SAMPLE_RATE)
    if not recipe.plain:
        wave = augment(wave, np.random.default_rng([recipe.seed, index]), SAMPLE_RATE)
    name = f"{speaker.name}-{index:06d}"
    return {"id": name, "duration": round(len(wave) / SAMPLE_RATE, 3), "text": text, "speaker": speaker.name}, wave


def _share_spelled(text: str) -> float:
    words = text.split()
    return sum(len(word) == 1 for word in words) / len(words)


def _write_chunk(recipe: Recipe, folder: Path, indices: Sequence[int]) -> list[dict[str, Any]]:
    import soundfile

    speakers = speakers_of(recipe)
    entries = []
    for index in indices:
        entry, wave = utterance(recipe, speakers, index)
        path = Path("audio") / entry["speaker"] / f"{entry['id']}.flac"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / path, wave, SAMPLE_RATE, subtype="PCM_16")
        entries.append({"id": entry["id"], "audio_filepath": str(path), **entry})
    return entries


def _chunks(recipe: Recipe, folder: Path, workers: int) -> Iterator[list[dict[str, Any]]]:
    """Chunks in order, made ahead by ``workers`` processes."""
    work: Callable[[Sequence[int]], list[dict[str, Any]]] = partial(_write_chunk, recipe, folder)
    starts = range(0, 10**9, _CHUNK)
    if workers <= 1:
        for start in starts:
            yield work(range(start, start + _CHUNK))
    # Not forked: the caller may hold threads of torch.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        ahead = [pool.submit(work, range(start, start + _CHUNK)) for start in starts[: 2 * workers]]
        for start in starts[2 * workers :]:
            yield ahead.pop(0).result()
            ahead.append(pool.submit(work, range(start, start + _CHUNK)))


def write_corpus(
    recipe: Recipe,
    out: str | Path,
    amount: Amount,
    workers: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Make a corpus.

    Args:
        out: the folder of ``audio/SPEAKER/ID.flac`` and of ``manifest.jsonl``, whose paths are relative to it.
        workers: processes that speak.
        progress: called with the share that is done, from 0 to 1.

    Returns:
        The manifest's path.

    Raises:
        UserError: the grammar is unknown.
    """
    if recipe.grammar not in GRAMMARS:
        raise UserError(
            f"the grammar '{recipe.grammar}' is unknown{nearest(recipe.grammar, GRAMMARS)}; name one of "
            f"{', '.join(GRAMMARS)}"
        )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    seconds = 0.0
    chunks = _chunks(recipe, folder, workers)
    done = 0.0
    for chunk in chunks:  # endless
        for entry in chunk:
            if done >= 1.0:
                (folder / entry["audio_filepath"]).unlink()
                continue
            entries.append(entry)
            seconds += entry["duration"]
            done = amount.share(len(entries), seconds)
        if progress is not None:
            progress(min(done, 1.0))
        if done >= 1.0:
            break
    chunks.close()  # type: ignore[attr-defined]
    # Chunks made ahead are on disk, but not wanted.
    wanted = {entry["audio_filepath"] for entry in entries}
    for path in (folder / "audio").glob(f"{recipe.prefix}*/*.flac"):
        if str(path.relative_to(folder)) not in wanted:
            path.unlink()
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m parlab.synth", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--grammar", default="an4", help=f"one of {', '.join(GRAMMARS)}")
    parser.add_argument("--hours", type=float, help="hours of speech")
    parser.add_argument("--count", type=int, help="utterances (instead of --hours)")
    parser.add_argument("--out", required=True, help="folder for audio/ and manifest.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speakers", type=int, default=200)
    parser.add_argument("--prefix", default="syn", help="start of speaker names")
    parser.add_argument("--plain", action="store_true", help="no augmentation")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    recipe = Recipe(options.grammar, options.seed, options.speakers, options.prefix, plain=options.plain)
    try:
        path = write_corpus(recipe, options.out, Amount(options.hours, options.count), options.workers)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    print(f"{path}: {len(entries)} utterances, {sum(e['duration'] for e in entries) / 3600:.2f} hours")
    return 0
