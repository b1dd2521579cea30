"""The pictures, drawn with matplotlib from the rows of ``tables`` and ``confidence``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from parlab.commands.report import confidence, tables
from parlab.commands.report.confidence import CaughtErrors, ConfidenceBin
from parlab.commands.report.drafts import Drafts
from parlab.commands.report.tables import LatencyPoint, ParallelismPoint, PhaseTimes, SpeedPoint, ThresholdPoint
from parlab.metrics.palette import COLORS
from parlab.metrics.tables import Table
from parlab.predictions.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = COLORS * 9  # of many lines
_FEW_TOKENS = 10  # a bin with fewer says nothing
_FEW, _MANY = 8, 24  # predictions that can be named beside their points; bars that can be read
Row = TypeVar("Row")


@dataclass(frozen=True)
class Picture:
    """A figure, the table that it was drawn from, and a sentence that explains it."""

    figure: Figure
    table: Table
    caption: str


def draw_pictures(predictions: Sequence[Prediction], drafts: Sequence[Drafts]) -> dict[str, Picture]:
    """The pictures that the predictions and their ``drafts`` have data for, by name."""
    pictures = {
        "wer_rtfx": _picture(
            tables.speed_accuracy(predictions),
            _pareto,
            "Error rate (95 % intervals) against speed; the line joins the settings that none beats in both.",
        ),
        "threshold": _picture(
            tables.by_threshold(predictions),
            _threshold,
            "WER and the share of masked tokens against the threshold.",
            axis="threshold",
        ),
        "parallelism": _picture(
            tables.by_parallelism(predictions),
            _parallelism,
            "Search time, and memory of the search, against max_mask_parallel; the results are the same.",
            axis="max_mask_parallel",
        ),
        "phases": _picture(
            tables.phases(predictions), _phases, "Where the time goes: front end and encoder, CTC, search."
        ),
        "latency": _picture(
            tables.latency_by_duration(predictions),
            _latency,
            "Decoding time of each utterance against its duration; in a batch, its share of the batch's time.",
        ),
        "reliability": _picture(
            confidence.reliability(different_results(predictions)),
            _reliability,
            "Does a confidence of 0.9 mean nine right in ten? On the diagonal it does (ECE: the mean distance from it).",
        ),
        "caught": _picture(
            confidence.caught_errors(predictions, drafts),
            _caught,
            "Wrong draft tokens that masks catch, against all tokens that they cost; beside the points, the threshold.",
        ),
    }
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _picture(
    rows: Sequence[Row], draw: Callable[[Sequence[Row]], Figure], caption: str, axis: str = ""
) -> Picture | None:
    """Draw ``rows`` where they show anything: more than one row, or more than one value of the field ``axis``."""
    values = {getattr(row, axis) for row in rows} if axis else range(len(rows))
    return Picture(draw(rows), [dict(vars(row)) for row in rows], caption) if len(values) > 1 else None


def different_results(predictions: Sequence[Prediction]) -> list[Prediction]:
    """One prediction of each result: mask parallelism changes only the speed."""
    seen: dict[str, Prediction] = {}
    for p in predictions:
        options = {k: v for k, v in p.options.items() if k != "max_mask_parallel"}
        seen.setdefault(f"{p.decoder} {options} {p.metrics.hashes.model}", p)
    return list(seen.values())


def _axes(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _groups(rows: Sequence[Row], key: Callable[[Row], str]) -> list[tuple[str, list[Row]]]:
    """Rows of equal ``key`` together, in the order of their first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _percent(shares: Sequence[float]) -> list[float]:
    return [100 * share for share in shares]


def _pareto(points: Sequence[SpeedPoint]) -> Figure:
    figure, axes = _axes("RTFx (seconds of audio per second)", "WER (%)")
    for color, (decoder, group) in zip(_COLORS, _groups(points, lambda p: p.decoder), strict=False):
        rtfx, wer = [p.rtfx for p in group], _percent([p.wer for p in group])
        axes.scatter(rtfx, wer, color=color, label=decoder, zorder=3)
        if len(points) <= _FEW:
            below = [max(100 * (p.wer - p.wer_low), 0) for p in group]
            above = [max(100 * (p.wer_high - p.wer), 0) for p in group]
            axes.errorbar(rtfx, wer, [below, above], fmt="none", ecolor=color, alpha=0.35, capsize=2, lw=1)
    front = sorted((p for p in points if p.front), key=lambda p: p.rtfx)
    axes.plot([p.rtfx for p in front], _percent([p.wer for p in front]), color="#888888", lw=1, zorder=2)
    if len(points) <= _FEW:
        for p in points:
            axes.annotate(p.name, (p.rtfx, 100 * p.wer), xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.legend(frameon=False)
    return figure


def _threshold(points: Sequence[ThresholdPoint]) -> Figure:
    figure, axes = _axes("threshold", "WER (%)")
    share = axes.twinx()
    share.set_ylabel("masked tokens (%)")
    share.spines["top"].set_visible(False)
    ticks = sorted({p.threshold for p in points})  # drawn evenly spaced: thresholds crowd towards 1
    for color, (setting, group) in zip(_COLORS, _groups(points, lambda p: p.setting), strict=False):
        rates = {i: [p.wer for p in group if p.threshold == t] for i, t in enumerate(ticks)}
        means = {i: 100 * sum(values) / len(values) for i, values in rates.items() if values}
        axes.plot(list(means), list(means.values()), "o-", color=color, label=setting, lw=1.4, ms=4)
    masked = [[p.masked_share for p in points if p.threshold == t] for t in ticks]
    heights = [100 * sum(shares) / len(shares) for shares in masked]
    share.bar(range(len(ticks)), heights, color="#999999", alpha=0.25, width=0.6)
    axes.set_xticks(range(len(ticks)), [str(t) for t in ticks])
    axes.legend(frameon=False, fontsize=7, ncols=2)
    return figure


def _parallelism(points: Sequence[ParallelismPoint]) -> Figure:
    figure, axes = _axes("max_mask_parallel", "search time (ms per second of audio)")
    ticks = list(dict.fromkeys(p.max_mask_parallel for p in sorted(points, key=lambda p: p.order)))
    groups = _groups(points, lambda p: p.setting)
    for color, (setting, group) in zip(_COLORS, groups, strict=False):
        xs = [ticks.index(p.max_mask_parallel) for p in group]
        times = [1000 * p.search_seconds_per_audio_second for p in group]
        axes.plot(xs, times, "o-", color=color, label=setting, lw=1.2, ms=4)
    axes.set_xticks(range(len(ticks)), ["all" if t < 0 else str(t) for t in ticks])
    peak = [max(p.search_memory_bytes or 0 for p in points if p.max_mask_parallel == t) / 2**20 for t in ticks]
    if max(peak) > 0:
        memory = axes.twinx()
        memory.set_ylabel("peak memory of the search (MiB)")
        memory.bar(range(len(ticks)), peak, color="#999999", alpha=0.2, width=0.6)
    if len(groups) <= 12:
        axes.legend(frameon=False, fontsize=6, ncols=2)
    return figure


def _phases(rows: Sequence[PhaseTimes]) -> Figure:
    shown = rows[:_MANY]
    figure, axes = _axes("time (ms per second of audio)", "")
    names, left = [row.name for row in shown], [0.0] * len(shown)
    for color, phase in zip(COLORS, ("encode", "ctc", "search"), strict=False):
        widths: list[float] = [getattr(row, f"{phase}_ms") for row in shown]
        axes.barh(names, widths, left=left, color=color, label=phase, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8 if len(shown) <= _FEW else 5)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _latency(points: Sequence[LatencyPoint]) -> Figure:
    figure, axes = _axes("duration (s)", "decoding time (s)")
    for color, (name, group) in zip(COLORS, _groups(points, lambda p: p.name), strict=False):
        durations, seconds = [p.duration for p in group], [p.seconds for p in group]
        axes.scatter(durations, seconds, s=10, color=color, label=name, alpha=0.7)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _reliability(bins: Sequence[ConfidenceBin]) -> Figure:
    figure, axes = _axes("confidence", "share of tokens in right words")
    axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
    for color, (name, group) in zip(COLORS, _groups(bins, lambda b: b.name), strict=False):
        shown = [b for b in group if b.tokens >= _FEW_TOKENS]
        xs, ys = [b.confidence for b in shown], [b.accuracy for b in shown]
        axes.plot(xs, ys, "o-", color=color, label=f"{name} (ECE {group[0].ece:.3f})", lw=1.4, ms=4)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _caught(points: Sequence[CaughtErrors]) -> Figure:
    figure, axes = _axes("masked tokens (%)", "wrong tokens caught (%)")
    for style, kind in (("o-", "threshold"), ("D", "masks")):
        groups = _groups([p for p in points if p.kind == kind], lambda p: p.name)
        for color, (name, group) in zip(_COLORS, groups, strict=False):
            xs, ys = _percent([p.masked_share for p in group]), _percent([p.errors_caught for p in group])
            label = name if len(groups) <= _FEW else None
            axes.plot(xs, ys, style, color=color, label=label, lw=1.4, ms=4 if kind == "threshold" else 6)
            for p, x, y in zip(group, xs, ys, strict=True):
                axes.annotate(f"{p.threshold:g}", (x, y), xytext=(4, -9), textcoords="offset points", fontsize=7)
    axes.legend(frameon=False, fontsize=8)
    return figure
