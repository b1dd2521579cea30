"""Options of the ``bench`` command."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from parlab.commands.bench.sizes import SIZES
from parlab.errors import UserError, nearest
from parlab.model.families.whisper_peer import SHAPES
from parlab.options.checks import check_above_zero, check_not_negative

CASES = {5.0: 6, 10.0: 12, 20.0: 18, 30.0: 27}  # seconds of audio: masks
PRECISIONS = ("32-true", "tf32", "bf16-true", "16-true")  # of a suite
PARTS = ("correctness", "ceilings", "speed", "whisper", "kernels")  # of a suite, in the order of --suite all


@dataclass(frozen=True)
class BenchOptions:
    """What is timed, and how often.

    Attributes:
        size: random model: tiny, librispeech256, librispeech512, owsm_{base,small,medium,reduced}, whisper_{base,small,turbo}
        seconds: durations (default 5, 10, 20, 30)
        batch: utterances of the batched rows
        beam: beam size
        parallel: values of max_mask_parallel
        repeats: timed runs of ours after one warm-up; the median counts
        espnet_repeats: timed runs of ESPnet's after one warm-up; 0 leaves ESPnet out
        model: a trained model: whole utterances against greedy
        data: speech for --model, joined to about 20 s
        device: cpu or cuda
        threads: CPU threads
        out: folder for bench.json, bench.csv, bench.png
        suite: every figure of a device instead: all, correctness, ceilings, speed or kernels
        minutes: time that the suite has
        sizes: random models of the suite
        batches: batch sizes of the suite
        precisions: precisions of the suite
        utterances: of the suite's correctness: speech of --data, else synthetic
        whisper: beside transformers: tiny, base, small, medium, large-v3, large-v3-turbo (random), or Whisper folders
        head: draft head of a Whisper folder, for its PAR
        faster_whisper: a model converted for faster-whisper, to be timed too

    Raises:
        UserError: there is no such size, a number makes no sense, or a model comes without data.
    """

    size: str = "librispeech256"
    seconds: list[float] = field(default_factory=list)
    batch: int = 8
    beam: int = 10
    parallel: list[int] = field(default_factory=lambda: [-1])
    repeats: int = 5
    espnet_repeats: int = 5
    model: str | None = None
    data: str | None = None
    device: str | None = None
    threads: int | None = None
    out: str = "runs/bench"
    suite: str | None = None
    minutes: float = 9.0
    sizes: list[str] = field(
        default_factory=lambda: ["librispeech256", "librispeech512", "owsm_medium", "whisper_base", "whisper_turbo"]
    )
    batches: list[int] = field(default_factory=lambda: [1, 8, 32, 128])
    precisions: list[str] = field(default_factory=lambda: ["bf16-true", "tf32"])
    utterances: int = 16
    whisper: list[str] = field(default_factory=list)
    head: str | None = None
    faster_whisper: str | None = None

    def __post_init__(self) -> None:
        for size in (self.size, *self.sizes):
            _check_known("size", size, SIZES)
        for name in self.whisper:
            if name not in SHAPES and not Path(name).is_dir() and "/" not in name:  # hub ids have a slash
                _check_known("Whisper shape or folder", name, SHAPES)
        for precision in self.precisions:
            _check_known("precision", precision, PRECISIONS)
        if self.suite is not None:
            _check_known("suite", self.suite, ("all", *PARTS))
        if not (self.sizes and self.batches and self.precisions) or min(self.batches) < 1:
            raise UserError(
                "sizes, batches and precisions are empty or below 1, expected at least one of each; correct them"
            )
        check_above_zero(self, "batch", "beam", "repeats", "threads", "minutes", "utterances")
        check_not_negative(self, "espnet_repeats")
        for seconds in self.seconds:
            if not 0.1 <= seconds <= 3600:
                raise UserError(f"the option seconds has {seconds}, expected durations from 0.1 to 3600 s; correct it")
        if any(cap == 0 or cap < -1 for cap in self.parallel):
            raise UserError(f"the option parallel has {self.parallel}, expected numbers of segments, or -1 for all")
        if self.model and not self.data and self.suite is None:
            raise UserError("bench got --model without --data, expected speech to decode; name a manifest")

    def durations(self) -> list[tuple[float, int]]:
        """Seconds of audio of each case, with the number of masks of its draft."""
        return [(seconds, masks_of(seconds)) for seconds in self.seconds or CASES]

    def durations_of(self, size: str) -> list[tuple[float, int]]:
        """Likewise for a model of the suite: its window for Whisper's shapes, else 10 s, where ``seconds`` names none."""
        usual = 30.0 if size.startswith("whisper") else 10.0
        return [(seconds, masks_of(seconds)) for seconds in self.seconds or [usual]]


def masks_of(seconds: float) -> int:
    """Masks of the draft of a case."""
    return CASES.get(seconds, max(1, int(0.9 * seconds)))


def _check_known(what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise UserError(f"there is no {what} '{name}', expected one of {', '.join(known)}{nearest(name, known)}")
