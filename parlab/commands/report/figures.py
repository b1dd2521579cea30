"""The pictures, drawn with matplotlib from the rows of ``tables`` and ``confidence``."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from parlab.commands.report import confidence, tables
from parlab.commands.report.confidence import CaughtErrors, ConfidenceBin
from parlab.commands.report.drafts import Drafts
from parlab.commands.report.drawing import FEW, annotate_apart, label, legend_below, lines, new_axes, percent
from parlab.commands.report.tables import LatencyPoint, ParallelismPoint, PhaseTimes, SpeedPoint, ThresholdPoint
from parlab.metrics.palette import COLORS
from parlab.metrics.tables import Table
from parlab.predictions.confidences import SAMPLE
from parlab.predictions.prediction import Prediction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEW_TOKENS = 10  # a bin with fewer says nothing
_MANY = 24  # bars that can be read
_POINTS = 2000  # of a prediction that are drawn
Row = TypeVar("Row")


@dataclass(frozen=True)
class Picture:
    """A figure, the table that it was drawn from, and a sentence that explains it."""

    figure: Figure
    table: Table
    caption: str

    @cached_property
    def png(self) -> bytes:
        """The figure as a PNG file."""
        buffer = io.BytesIO()
        with warnings.catch_warnings():  # a script that the font lacks is drawn as boxes
            warnings.simplefilter("ignore")
            self.figure.savefig(buffer, format="png")
        return buffer.getvalue()


def draw_pictures(
    predictions: Sequence[Prediction], drafts: Sequence[Drafts], known: tables.Intervals
) -> dict[str, Picture]:
    """The pictures that the predictions, their ``drafts`` and intervals have data for, by name."""
    of_many = any(len(p.scored) > SAMPLE for p in predictions)
    sample = f" From a sample of at most {SAMPLE} utterances." if of_many else ""
    pictures = {
        "wer_rtfx": _picture(
            tables.speed_accuracy(predictions, known),
            _pareto,
            "Error rate (95 % intervals) against speed; the line joins the settings that none beats in both.",
        ),
        "threshold": _picture(
            tables.by_threshold(predictions),
            _threshold,
            "WER and the share of masked tokens against the threshold.",
            axis="threshold",
            line="setting",
        ),
        "parallelism": _picture(
            tables.by_parallelism(predictions),
            _parallelism,
            "Search time per second of audio, and memory of the search, against max_mask_parallel; the results are the same.",
            axis="max_mask_parallel",
            line="setting",
        ),
        "phases": _picture(
            tables.phases(predictions),
            _phases,
            "Where the time goes, per second of audio: front end and encoder, CTC, search.",
        ),
        "latency": _picture(
            tables.latency_by_duration(predictions),
            _latency,
            "Decoding time of each utterance against its duration; in a batch, its share of the batch's time.",
        ),
        "reliability": _picture(
            confidence.reliability(different_results(predictions)),
            _reliability,
            "Does a confidence of 0.9 mean nine right in ten? On the diagonal it does (ECE: the mean distance from it; "
            "NCE: 1 is perfect, 0 no better than the mean; AUC: how often a right token is surer than a wrong one)."
            + sample,
        ),
        "caught": _picture(
            confidence.caught_errors(predictions, drafts),
            _caught,
            "Wrong draft tokens that masks catch, against all tokens that they cost; beside the points, the threshold."
            + sample,
        ),
    }
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _picture(
    rows: Sequence[Row], draw: Callable[[Sequence[Row]], Figure], caption: str, axis: str = "", line: str = "name"
) -> Picture | None:
    """Draw ``rows`` where they show anything: more than one row, or more than one value of the field ``axis``.

    ``line`` is the field that names the line, point or bar of a row.
    """
    values = {getattr(row, axis) for row in rows} if axis else range(len(rows))
    if len(values) < 2:
        return None
    count = len({getattr(row, line) for row in rows})
    most = _MANY if draw is _phases else FEW
    if count > most and draw is not _pareto:
        caption += f" {most} of {count} are shown; the CSV beside the page has all."
    return Picture(draw(rows), [dict(vars(row)) for row in rows], caption)


def different_results(predictions: Sequence[Prediction]) -> list[Prediction]:
    """One prediction of each result: mask parallelism changes only the speed."""
    seen: dict[str, Prediction] = {}
    for p in predictions:
        options = {k: v for k, v in p.options.items() if k != "max_mask_parallel"}
        seen.setdefault(f"{p.decoder} {options} {p.metrics.hashes.model}", p)
    return list(seen.values())


def _pareto(points: Sequence[SpeedPoint]) -> Figure:
    figure, axes = new_axes("RTFx (seconds of audio per second)", "WER (%)")
    for (color, marker), decoder, group in lines(points, lambda p: p.decoder, lambda p: p.wer):
        rtfx, wer = [p.rtfx for p in group], percent([p.wer for p in group])
        axes.scatter(rtfx, wer, color=color, marker=marker, label=label(decoder), zorder=3)
        if len(points) <= FEW:
            below = [max(100 * (p.wer - p.wer_low), 0) for p in group]
            above = [max(100 * (p.wer_high - p.wer), 0) for p in group]
            axes.errorbar(rtfx, wer, [below, above], fmt="none", ecolor=color, alpha=0.35, capsize=2, lw=1)
    front = sorted((p for p in points if p.front), key=lambda p: p.rtfx)
    axes.plot([p.rtfx for p in front], percent([p.wer for p in front]), color="#888888", lw=1, zorder=2)
    named = points if len(points) <= FEW else front[:: max(1, -(-len(front) // FEW))]
    middle = (min(p.rtfx for p in points) + max(p.rtfx for p in points)) / 2
    for p in named:  # to the inside, so that no name leaves the picture
        side = 1 if p.rtfx <= middle else -1
        align = "left" if side > 0 else "right"
        at = (p.rtfx, 100 * p.wer)
        axes.annotate(label(p.name), at, xytext=(5 * side, 5), textcoords="offset points", fontsize=8, ha=align)
    axes.margins(0.1, 0.12)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _threshold(points: Sequence[ThresholdPoint]) -> Figure:
    figure, axes = new_axes("threshold", "WER (%)")
    share = axes.twinx()
    share.set_ylabel("masked tokens (%)")
    share.spines["top"].set_visible(False)
    ticks = sorted({p.threshold for p in points})  # drawn evenly spaced: thresholds crowd towards 1
    for (color, marker), setting, group in lines(points, lambda p: p.setting, lambda p: p.wer):
        rates = {i: [p.wer for p in group if p.threshold == t] for i, t in enumerate(ticks)}
        means = {i: 100 * sum(values) / len(values) for i, values in rates.items() if values}
        axes.plot(list(means), list(means.values()), marker=marker, color=color, label=label(setting), lw=1.4, ms=4)
    masked = [[p.masked_share for p in points if p.threshold == t] for t in ticks]
    heights = [100 * sum(shares) / len(shares) for shares in masked]
    share.bar(range(len(ticks)), heights, color="#999999", alpha=0.25, width=0.6)
    axes.set_xticks(range(len(ticks)), [f"{t:g}" for t in ticks])
    legend_below(figure, axes)
    return figure


def _parallelism(points: Sequence[ParallelismPoint]) -> Figure:
    figure, axes = new_axes("max_mask_parallel", "search (seconds per second of audio)")
    ticks = list(dict.fromkeys(p.max_mask_parallel for p in sorted(points, key=lambda p: p.order)))
    for (color, marker), setting, group in lines(
        points, lambda p: p.setting, lambda p: p.search_seconds_per_audio_second
    ):
        xs = [ticks.index(p.max_mask_parallel) for p in group]
        times = [p.search_seconds_per_audio_second for p in group]
        axes.plot(xs, times, marker=marker, color=color, label=label(setting), lw=1.2, ms=4)
    axes.set_xticks(range(len(ticks)), ["all" if t < 0 else str(t) for t in ticks])
    peak = [max(p.search_memory_bytes or 0 for p in points if p.max_mask_parallel == t) / 2**20 for t in ticks]
    if max(peak) > 0:
        memory = axes.twinx()
        memory.set_ylabel("peak memory of the search (MiB)")
        memory.bar(range(len(ticks)), peak, color="#999999", alpha=0.2, width=0.6)
    legend_below(figure, axes)
    return figure


def _phases(rows: Sequence[PhaseTimes]) -> Figure:
    shown = rows[:_MANY]
    figure, axes = new_axes("seconds per second of audio", "")
    left = [0.0] * len(shown)
    for color, phase in zip(COLORS, ("encode", "ctc", "search"), strict=False):
        widths: list[float] = [getattr(row, f"{phase}_ms") / 1000 for row in shown]
        axes.barh(range(len(shown)), widths, left=left, color=color, label=phase, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(shown)), [label(row.name) for row in shown])
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8 if len(shown) <= FEW else 5)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _latency(points: Sequence[LatencyPoint]) -> Figure:
    figure, axes = new_axes("duration (s)", "decoding time (s)")
    for (color, marker), name, group in lines(points, lambda p: p.name):
        drawn = group[:: max(1, -(-len(group) // _POINTS))]
        durations, seconds = [p.duration for p in drawn], [p.seconds for p in drawn]
        axes.scatter(durations, seconds, s=10, color=color, marker=marker, label=label(name), alpha=0.7)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _reliability(bins: Sequence[ConfidenceBin]) -> Figure:
    figure, axes = new_axes("confidence", "share of tokens in right words")
    axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
    for (color, marker), name, group in lines(bins, lambda b: b.name, lambda b: b.ece):
        shown = [b for b in group if b.tokens >= _FEW_TOKENS]
        xs, ys = [b.confidence for b in shown], [b.accuracy for b in shown]
        q = group[0]
        known = "" if q.nce is None else f", NCE {q.nce:.2f}, AUC {q.auc_roc:.2f}"
        text = f"{label(name)} (ECE {q.ece:.3f}{known})"
        axes.plot(xs, ys, marker=marker, color=color, label=text, lw=1.4, ms=4)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _caught(points: Sequence[CaughtErrors]) -> Figure:
    figure, axes = new_axes("masked tokens (%)", "wrong tokens caught (%)")
    beside: list[tuple[str, float, float]] = []
    for (color, marker), name, group in lines(points, lambda p: p.name):
        xs, ys = percent([p.masked_share for p in group]), percent([p.errors_caught for p in group])
        line = "-" if group[0].kind == "threshold" else ""
        axes.plot(xs, ys, line, marker=marker, color=color, label=label(name), lw=1.4, ms=4 if line else 7)
        beside += [(f"{p.threshold:g}", x, y) for p, x, y in zip(group, xs, ys, strict=True)]
    axes.legend(frameon=False, fontsize=8)
    annotate_apart(figure, axes, beside)
    return figure
