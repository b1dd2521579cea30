"""The numbers behind each picture of speed and accuracy, a dataclass for each kind of row, and the main table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from parlab.commands.report.drafts import Drafts, draft_errors
from parlab.metrics.significance import bootstrap_interval, errors_and_lengths
from parlab.metrics.tables import Cell, Table
from parlab.predictions.prediction import Prediction

_INTERVAL_REPLICATES = 2000  # a page may have hundreds of rows
_SAME_RESULT = frozenset(
    {"threshold", "max_mask_parallel"}
)  # options that are axes of pictures, not settings of a line
_SHORT = {"ctc_weight": "w", "beam_size": "beam", "ctc_mode": "", "max_seq_len": "max length", "threshold": "threshold"}
_SPEED = ("rtfx", "search_seconds", "latency_p50", "latency_p90", "latency_p99", "peak_memory_bytes", "batch_size")


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


def speed_accuracy(predictions: Sequence[Prediction]) -> list[SpeedPoint]:
    """WER and RTFx of each prediction, and whether none beats it in both (Pareto front)."""
    points = []
    for p in predictions:
        if p.metrics.wer and p.speed.rtfx:
            low, high = interval(p)
            points.append(SpeedPoint(p.name, p.decoder, p.metrics.wer.rate, p.speed.rtfx, low, high))
    return [replace(a, front=not any(b.beats(a) for b in points)) for a in points]


def interval(p: Prediction) -> tuple[float, float]:
    """95 % interval of the WER, over utterances."""
    if p.scored:
        return bootstrap_interval(*errors_and_lengths(p.word_counts), replicates=_INTERVAL_REPLICATES)
    rate = p.metrics.wer.rate if p.metrics.wer else 0.0
    return rate, rate


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
    points = [ThresholdPoint(p.name, setting(p, varied), x, wer, p.masked_share) for p, x, wer in shown]
    return sorted(points, key=lambda point: (point.setting, point.threshold))


def by_parallelism(predictions: Sequence[Prediction]) -> list[ParallelismPoint]:
    """Search time and memory of each PAR prediction, sorted by line and parallelism."""
    shown = [
        (p, int(parallel), p.speed.search_seconds / max(p.speed.audio_seconds or 0.0, 1e-9))
        for p in predictions
        if p.decoder == "par"
        and p.speed.search_seconds is not None
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
        times = [t for t in (p.speed.encode_seconds, p.speed.ctc_seconds, p.speed.search_seconds) if t is not None]
        if p.speed.audio_seconds and len(times) == 3:
            encode, ctc, search = (1000 * t / p.speed.audio_seconds for t in times)
            rows.append(PhaseTimes(p.name, encode, ctc, search))
    return rows


def summary(predictions: Sequence[Prediction], drafts: Sequence[Drafts] = ()) -> Table:
    """The main table; with the ``drafts`` of each prediction also the drafts' WER."""
    rows: Table = []
    for i, p in enumerate(predictions):
        row: dict[str, Cell] = {"prediction": p.name, "decoder": p.decoder, "utterances": len(p.records)}
        if p.metrics.wer:
            low, high = interval(p)
            row |= {"wer": p.metrics.wer.rate, "wer_low": low, "wer_high": high}
        if p.metrics.cer:
            row["cer"] = p.metrics.cer.rate
        par = p.metrics.par
        if drafts and drafts[i] and p.scored and par.segments:
            row["draft_wer"] = draft_errors(p, drafts[i]) / max(sum(c.total for c in p.word_counts), 1)
        if p.metrics.speed:
            row |= {name: getattr(p.metrics.speed, name) for name in _SPEED}
        if par.tokens or p.decoder == "par":
            row |= {"masked_share": p.masked_share, "segments": par.segments}
        row["failed"] = len(p.metrics.failed)
        rows.append(row)
    return rows
