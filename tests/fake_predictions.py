"""Predictions without a model: utterances of made-up words, with errors, masks and times, of any number.

``python -m tests.fake_predictions DIR 50000`` writes ``DIR/greedy``, ``DIR/par`` and ``DIR/ar`` of so many utterances.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parlab.metrics.speed import Timing
from parlab.predictions.hypotheses import SegmentRecord, UtteranceRecord, write_hypotheses
from parlab.predictions.metrics import Environment, Hashes, Named, NormalizerVersion, write_metrics
from parlab.predictions.results import Source, metrics_of
from parlab.predictions.summary import Timed, speed_of

WORDS = [
    f"{a}{b}{c}" for a in ("ba", "de", "fi", "go", "lu", "ma") for b in ("ra", "ne", "ti") for c in ("", "s", "ka")
]
Token = tuple[str, float]  # text and confidence


def _tokens(words: Sequence[str], rng: random.Random, sure: float) -> list[Token]:
    """Two pieces a word; the confidence of each."""
    pieces = [piece for word in words for piece in ("\u2581" + word[:2], word[2:])]
    return [(piece, round(min(1.0, sure + rng.random() * (1 - sure)), 4)) for piece in pieces]


def _record(i: int, decoder: str, threshold: float) -> UtteranceRecord:
    """Greedy errs in 7 % of the words, PAR mends half of the unsure ones, AR a few more."""
    rng = random.Random(i)  # the drafts of all decoders are the same
    words = [rng.choice(WORDS) for _ in range(rng.randint(6, 24))]
    wrong = [rng.random() < 0.07 for _ in words]
    draft = [rng.choice(WORDS) if bad else word for word, bad in zip(words, wrong, strict=True)]
    tokens: list[Token] = []
    segments: list[SegmentRecord] = []
    said = []
    start = 0
    for word, seen, bad in zip(words, draft, wrong, strict=True):
        unsure = bad and rng.random() < 0.8
        pieces = _tokens([seen], rng, 0.3 if unsure else 0.97)
        right = rng.random() < {"greedy": 0.0, "par": 0.5, "ar": 0.6}[decoder]
        masked = decoder == "par" and min(c for _, c in pieces) < threshold
        if (masked or decoder == "ar") and right:
            seen = word
        shown = _tokens([seen], rng, 0.9) if masked or decoder == "ar" else pieces
        if masked:
            texts = [tuple(text for text, _ in some) for some in (pieces, shown)]
            segments.append(SegmentRecord(start, start + 2, (1, 2), (3, 4), *texts, score=-1.0))
        start += 2
        tokens += shown
        said.append(seen)
    seconds = {"greedy": 0.01, "par": 0.02, "ar": 0.1}[decoder] * len(words)
    return UtteranceRecord(
        id=f"u{i:06d}",
        text=" ".join(said),
        ref=" ".join(words),
        speaker=f"s{i % 40}",
        tokens=tuple(range(len(tokens))),
        token_text=tuple(text for text, _ in tokens),
        token_confidence=tuple(c for _, c in tokens),
        segments=tuple(segments),
        score=-1.0,
        duration=0.4 * len(words),
        audio=f"/nowhere/u{i:06d}.wav",
        counts={"tokens": len(tokens), "masked_tokens": 2 * len(segments)},
        seconds=seconds,
    )


def write_prediction(folder: Path, decoder: str, count: int, threshold: float = 0.9) -> Path:
    """Write the folder of a prediction of ``count`` utterances by ``greedy``, ``par`` or ``ar``."""
    folder.mkdir(parents=True)
    records = [_record(i, decoder, threshold) for i in range(count)]
    options = {"greedy": {}, "par": {"threshold": threshold, "beam_size": 10}, "ar": {"beam_size": 10}}[decoder]
    hashes = Hashes(model="0" * 64, data="1" * 64)
    source = Source(Named(decoder, options), "a/model", "data.jsonl", NormalizerVersion(), hashes, {})
    timed = [Timed(r.duration or 0.0, Timing(0.0, 0.001, 0.0, r.seconds or 0.0, r.seconds or 0.0)) for r in records]
    environment = Environment(1, "32-true", "a processor", 1, 2**30)
    metrics = metrics_of(source, records, ()).with_speed(speed_of(timed, environment))
    write_hypotheses(folder, records)
    write_metrics(folder, replace(metrics, search_memory_bytes=2**20))
    return folder


if __name__ == "__main__":
    for name in ("greedy", "par", "ar"):
        print(write_prediction(Path(sys.argv[1]) / name, name, int(sys.argv[2])))
