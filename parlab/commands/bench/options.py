"""Options of the ``bench`` command."""

from __future__ import annotations

from dataclasses import dataclass, field

from parlab.commands.bench.sizes import SIZES
from parlab.errors import UserError, nearest
from parlab.options.checks import check_above_zero, check_not_negative

CASES = {5.0: 6, 10.0: 12, 20.0: 18, 30.0: 27}  # seconds of audio: masks


@dataclass(frozen=True)
class BenchOptions:
    """What is timed, and how often.

    Attributes:
        size: random model: tiny, librispeech256, librispeech512, owsm_base, owsm_small, owsm_medium or owsm_reduced
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

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UserError(
                f"there is no size '{self.size}', expected one of {', '.join(SIZES)}{nearest(self.size, SIZES)}"
            )
        check_above_zero(self, "batch", "beam", "repeats", "threads")
        check_not_negative(self, "espnet_repeats")
        for seconds in self.seconds:
            if not 0.1 <= seconds <= 3600:
                raise UserError(f"the option seconds has {seconds}, expected durations from 0.1 to 3600 s; correct it")
        if any(cap == 0 or cap < -1 for cap in self.parallel):
            raise UserError(f"the option parallel has {self.parallel}, expected numbers of segments, or -1 for all")
        if self.model and not self.data:
            raise UserError("bench got --model without --data, expected speech to decode; name a manifest")

    def durations(self) -> list[tuple[float, int]]:
        """Seconds of audio of each case, with the number of masks of its draft."""
        return [(seconds, CASES.get(seconds, max(1, int(0.9 * seconds)))) for seconds in self.seconds or CASES]
