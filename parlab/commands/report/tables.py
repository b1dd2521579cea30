"""The numbers behind each picture of speed and accuracy, a dataclass for each kind of row, and the main table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from parlab.commands.report.drafts import Drafts, draft_errors
from parlab.metrics.significance import REPLICATES, Replicates, errors_and_lengths
from parlab.metrics.tables import Cell, Table
from parlab.predictions.prediction import Prediction

_FEW_REPLICATES = 2000  # where a page has many rows, or utterances enough that no digit depends on it
_SAME_RESULT = frozenset(
    {"threshold", "max_mask_parallel"}
)  # options that are axes of pictures, not settings of a line
_SHORT = {"ctc_weight": "w", "beam_size": "beam", "ctc_mode": "", "max_seq_len": "max length", "threshold": "threshold"}
_SPEED = (
    "rtfx",
    "rtfx_with_loading",
    "search_seconds",
    "latency_p50",
    "latency_p90",
    "latency_p99",
    "peak_memory_bytes",
    "batch_size",
)


@dataclass(frozen=True)
class SpeedPoint:
    """WER, a fraction with its 95 % interval, and RTFx; ``front``: no other point beats it in both."""

    name: str
    decoder: str
    wer: float
    rtfx: float
    wer_low: float
    wer_high: float
    front: bool = False

    def beats(self, other: SpeedPoint) -> bool:
        """Whether it is at least as good in both, and better in one."""
        no_worse = self.wer <= other.wer and self.rtfx >= other.rtfx
        return no_worse and (self.wer < other.wer or self.rtfx > other.rtfx)


@dataclass(frozen=True)
class ThresholdPoint:
    """WER and masked share (fractions) of PAR at a threshold; ``setting`` names its line."""

    name: str
    setting: str
    threshold: float
    wer: float
    masked_share: float
    rtfx: float | None = None


@dataclass(frozen=True)
class ParallelismPoint:
    """Search time of PAR and peak memory of the search alone (sweeps have it) at ``max_mask_parallel`` (-1: all)."""

    name: str
    setting: str
    max_mask_parallel: int
    search_seconds_per_audio_second: float
    search_memory_bytes: int | None

    @property
    def order(self) -> int:
        """Its rank on an axis on which -1 comes last."""
        return self.max_mask_parallel % 10**9


@dataclass(frozen=True)
class LatencyPoint:
    """Decoding seconds of an utterance and its duration in seconds; in a batch, its share of the batch's time."""

    name: str
    id: str
    duration: float
    seconds: float
    batch_size: int | None


@dataclass(frozen=True)
class PhaseTimes:
    """Milliseconds of each phase per second of audio."""

    name: str
    encode_ms: float
    ctc_ms: float
    search_ms: float


Intervals = Mapping[str, tuple[float, float]]
"""95 % intervals of the WER, over utterances, by the prediction's name."""


def intervals(predictions: Sequence[Prediction]) -> Intervals:
    """The interval of each prediction; without references in its records its WER alone."""
    small = len(predictions) <= 12 and all(len(p.scored) <= 10_000 for p in predictions)
    replicates = REPLICATES if small else _FEW_REPLICATES  # of small sets those of the verdict, with the same digits
    rates = {p.name: p.metrics.wer.rate if p.metrics.wer else 0.0 for p in predictions}
    found = {name: (rate, rate) for name, rate in rates.items()}
    alike: dict[int, list[Prediction]] = {}  # by the number of utterances: they see the same draws
    for p in predictions:
        alike.setdefault(len(p.scored), []).append(p)
    for count, group in alike.items():
        if count:
            errors, lengths = zip(*(errors_and_lengths(p.word_counts) for p in group), strict=True)
            drawn = Replicates.of(errors, lengths, replicates=replicates)
            found |= {p.name: drawn.interval(i) for i, p in enumerate(group)}
    return found


def speed_accuracy(predictions: Sequence[Prediction], known: Intervals | None = None) -> list[SpeedPoint]:
    """WER and RTFx of each prediction, and whether none beats it in both (Pareto front)."""
    known = intervals(predictions) if known is None else known
    points = [
        SpeedPoint(p.name, p.decoder, p.metrics.wer.rate, p.speed.rtfx, *known[p.name])
        for p in predictions
        if p.metrics.wer and p.speed.rtfx
    ]
    return [replace(a, front=not any(b.beats(a) for b in points)) for a in points]


def number_option(p: Prediction, name: str) -> float | None:
    """A numeric option of the decoder; None where it has none of that name."""
    value = p.options.get(name)
    return float(value) if isinstance(value, (int, float)) else None


def setting(p: Prediction, varied: Sequence[str]) -> str:
    """The options that tell a line of a picture from the others, shortly."""
    return ", ".join(f"{_SHORT.get(k, k)} {p.options.get(k)}".strip() for k in varied) or p.decoder


def varied_options(predictions: Sequence[Prediction], but: frozenset[str] = _SAME_RESULT) -> list[str]:
    """Options that do not have the same value in all predictions."""
    names = list(dict.fromkeys(k for p in predictions for k in p.options if k not in but))
    return [k for k in names if len({repr(p.options.get(k)) for p in predictions}) > 1]


def by_threshold(predictions: Sequence[Prediction]) -> list[ThresholdPoint]:
    """WER and masked share of each PAR prediction, sorted by line and threshold."""
    shown = [
        (p, threshold, p.metrics.wer.rate)
        for p in predictions
        if p.decoder == "par" and p.metrics.wer and (threshold := number_option(p, "threshold")) is not None
    ]
    varied = varied_options([p for p, _, _ in shown])
    points = [ThresholdPoint(p.name, setting(p, varied), x, wer, p.masked_share, p.speed.rtfx) for p, x, wer in shown]
    return sorted(points, key=lambda point: (point.setting, point.threshold))


def by_parallelism(predictions: Sequence[Prediction]) -> list[ParallelismPoint]:
    """Search time and memory of each PAR prediction, sorted by line and parallelism."""
    shown = [
        (p, int(parallel), seconds)
        for p in predictions
        if p.decoder == "par"
        and (seconds := p.speed.per_audio_second("search")) is not None
        and (parallel := number_option(p, "max_mask_parallel")) is not None
    ]
    varied = varied_options([p for p, _, _ in shown], frozenset({"max_mask_parallel"}))
    points = [
        ParallelismPoint(p.name, setting(p, varied), parallel, seconds, p.metrics.search_memory_bytes)
        for p, parallel, seconds in shown
    ]
    return sorted(points, key=lambda point: (point.setting, point.order))


def latency_by_duration(predictions: Sequence[Prediction]) -> list[LatencyPoint]:
    """A point per timed utterance."""
    return [
        LatencyPoint(p.name, r.id, r.duration, r.seconds, p.speed.batch_size)
        for p in predictions
        for r in p.records
        if r.seconds is not None and r.duration is not None
    ]


def phases(predictions: Sequence[Prediction]) -> list[PhaseTimes]:
    """Where the time goes, for each prediction whose phases were all timed."""
    rows = []
    for p in predictions:
        shares = [p.speed.per_audio_second(phase) for phase in ("encode", "ctc", "search")]
        times = [1000 * share for share in shares if share is not None]
        if len(times) == 3:
            rows.append(PhaseTimes(p.name, *times))
    return rows


def summary(predictions: Sequence[Prediction], known: Intervals, drafts: Sequence[Drafts]) -> Table:
    """The main table, from the predictions, their intervals and the drafts of each."""
    rows: Table = []
    for p, own in zip(predictions, drafts, strict=True):
        row: dict[str, Cell] = {"prediction": p.name, "decoder": p.decoder, "utterances": len(p.records)}
        if p.metrics.wer:
            row |= {"wer": p.metrics.wer.rate, "wer_low": known[p.name][0], "wer_high": known[p.name][1]}
        if p.metrics.cer:
            row["cer"] = p.metrics.cer.rate
        par = p.metrics.par
        if own and p.scored and par.segments:
            row["draft_wer"] = draft_errors(p, own) / max(sum(c.total for c in p.word_counts), 1)
        if p.metrics.speed:
            row |= {name: getattr(p.metrics.speed, name) for name in _SPEED}
            if p.metrics.speed.joules_per_audio_hour is not None:
                row["joules_per_audio_hour"] = p.metrics.speed.joules_per_audio_hour
            row["search_seconds_per_audio_second"] = p.metrics.speed.per_audio_second("search")
        if par.tokens or p.decoder == "par":
            row |= {"masked_share": p.masked_share, "segments": par.segments}
        row["failed"] = len(p.metrics.failed)
        rows.append(row)
    return rows
