"""The pictures, drawn with matplotlib from the tables of ``data`` and ``confidence``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parlab.commands.report import confidence, data
from parlab.commands.report.drafts import drafts
from parlab.predictions.loaded import Prediction

# Okabe and Ito's colours, told apart by people of all colour vision.
_FEW_TOKENS = 10  # a bin with fewer says nothing
_FEW, _MANY = 8, 24  # predictions that can be named beside their points; bars that can be read
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A7A00", "#444444")


def figures(predictions: Sequence[Prediction]) -> dict[str, tuple[Any, data.Table, str]]:
    """Pictures that the predictions have data for: name -> (figure, its table, a sentence that explains it)."""
    caught = confidence.caught_errors(predictions, drafts(predictions))
    made = (
        (
            "wer_rtfx",
            data.speed_accuracy(predictions),
            _pareto,
            "Error rate (95 % intervals) against speed; the line joins the settings that none beats in both.",
        ),
        (
            "threshold",
            data.by_threshold(predictions),
            _threshold,
            "WER and the share of masked tokens against the threshold.",
        ),
        (
            "parallelism",
            data.by_parallelism(predictions),
            _parallelism,
            "Search time, and memory of the search, against max_mask_parallel; the results are the same.",
        ),
        ("phases", data.phases(predictions), _phases, "Where the time goes: front end and encoder, CTC, search."),
        (
            "latency",
            data.latency_by_duration(predictions),
            _latency,
            "Decoding time of each utterance against its duration; in a batch, its share of the batch's time.",
        ),
        (
            "reliability",
            confidence.reliability(different_results(predictions)),
            _reliability,
            "Does a confidence of 0.9 mean nine right in ten? On the diagonal it does (ECE: the mean distance from it).",
        ),
        (
            "caught",
            caught,
            _caught,
            "Wrong draft tokens that masks catch, against all tokens that they cost; beside the points, the threshold.",
        ),
    )
    out = {}
    for name, table, draw, caption in made:
        axis = {"threshold": "threshold", "parallelism": "max_mask_parallel"}.get(name, "")
        if len({row[axis] for row in table}) > 1 if axis else len(table) > 1:
            out[name] = (draw(table), table, caption)
    return out


def different_results(predictions: Sequence[Prediction]) -> list[Prediction]:
    """One prediction of each result: mask parallelism changes only the speed."""
    seen: dict[str, Prediction] = {}
    for p in predictions:
        options = {k: v for k, v in p.options.items() if k != "max_mask_parallel"}
        seen.setdefault(f"{p.decoder} {options} {p.hashes.get('model')}", p)
    return list(seen.values())


def _axes(xlabel: str, ylabel: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _groups(table: data.Table, key: str) -> list[tuple[str, data.Table]]:
    names = list(dict.fromkeys(row[key] for row in table))
    return [(name, [row for row in table if row[key] == name]) for name in names]


def _pareto(table: data.Table) -> Any:
    figure, axes = _axes("RTFx (seconds of audio per second)", "WER (%)")
    for color, (decoder, rows) in zip(COLORS * 9, _groups(table, "decoder"), strict=False):
        axes.scatter([r["rtfx"] for r in rows], [100 * r["wer"] for r in rows], color=color, label=decoder, zorder=3)
        if len(table) <= _FEW:
            wer, low, high = ([100 * r[key] for r in rows] for key in ("wer", "wer_low", "wer_high"))
            below, above = ([max(b - a, 0) for a, b in zip(x, y, strict=True)] for x, y in ((low, wer), (wer, high)))
            axes.errorbar(
                [r["rtfx"] for r in rows], wer, [below, above], fmt="none", ecolor=color, alpha=0.35, capsize=2, lw=1
            )
    front = sorted((r for r in table if r["front"]), key=lambda r: r["rtfx"])
    axes.plot([r["rtfx"] for r in front], [100 * r["wer"] for r in front], color="#888888", lw=1, zorder=2)
    if len(table) <= _FEW:
        for r in table:
            axes.annotate(r["name"], (r["rtfx"], 100 * r["wer"]), xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.legend(frameon=False)
    return figure


def _threshold(table: data.Table) -> Any:
    figure, axes = _axes("threshold", "WER (%)")
    share = axes.twinx()
    share.set_ylabel("masked tokens (%)")
    share.spines["top"].set_visible(False)
    ticks = sorted({row["threshold"] for row in table})
    place = {t: i for i, t in enumerate(ticks)}  # evenly spaced: thresholds crowd towards 1
    for color, (setting, rows) in zip(COLORS * 9, _groups(table, "setting"), strict=False):
        means = {t: [r["wer"] for r in rows if r["threshold"] == t] for t in ticks}
        xs = [place[t] for t in ticks if means[t]]
        axes.plot(
            xs,
            [100 * sum(means[t]) / len(means[t]) for t in ticks if means[t]],
            "o-",
            color=color,
            label=setting,
            lw=1.4,
            ms=4,
        )
    masked = {t: [r["masked_share"] for r in table if r["threshold"] == t] for t in ticks}
    share.bar(
        range(len(ticks)), [100 * sum(v) / len(v) for v in masked.values()], color="#999999", alpha=0.25, width=0.6
    )
    axes.set_xticks(range(len(ticks)), [str(t) for t in ticks])
    axes.legend(frameon=False, fontsize=7, ncols=2)
    return figure


def _parallelism(table: data.Table) -> Any:
    figure, axes = _axes("max_mask_parallel", "search time (ms per second of audio)")
    ticks = sorted({r["max_mask_parallel"] for r in table}, key=lambda v: v % 10**9)
    for color, (setting, rows) in zip(COLORS * 9, _groups(table, "setting"), strict=False):
        xs = [ticks.index(r["max_mask_parallel"]) for r in rows]
        axes.plot(
            xs,
            [1000 * r["search_seconds_per_audio_second"] for r in rows],
            "o-",
            color=color,
            label=setting,
            lw=1.2,
            ms=4,
        )
    axes.set_xticks(range(len(ticks)), ["all" if t < 0 else str(t) for t in ticks])
    peak = [max(r["search_memory_bytes"] or 0 for r in table if r["max_mask_parallel"] == t) / 2**20 for t in ticks]
    if max(peak) > 0:
        memory = axes.twinx()
        memory.set_ylabel("peak memory of the search (MiB)")
        memory.bar(range(len(ticks)), peak, color="#999999", alpha=0.2, width=0.6)
    if len(_groups(table, "setting")) <= 12:
        axes.legend(frameon=False, fontsize=6, ncols=2)
    return figure


def _phases(table: data.Table) -> Any:
    shown = table[:_MANY]
    figure, axes = _axes("time (ms per second of audio)", "")
    left = [0.0] * len(shown)
    for color, phase in zip(COLORS, ("encode", "ctc", "search"), strict=False):
        widths = [row[f"{phase}_ms"] for row in shown]
        axes.barh([row["name"] for row in shown], widths, left=left, color=color, label=phase, height=0.6)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8 if len(shown) <= _FEW else 5)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _latency(table: data.Table) -> Any:
    figure, axes = _axes("duration (s)", "decoding time (s)")
    for color, (name, rows) in zip(COLORS * 9, _groups(table, "name")[:8], strict=False):
        axes.scatter(
            [r["duration"] for r in rows], [r["seconds"] for r in rows], s=10, color=color, label=name, alpha=0.7
        )
    axes.legend(frameon=False, fontsize=8)
    return figure


def _reliability(table: data.Table) -> Any:
    figure, axes = _axes("confidence", "share of tokens in right words")
    axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
    for color, (name, rows) in zip(COLORS * 9, _groups(table, "name")[:8], strict=False):
        label = f"{name} (ECE {rows[0]['ece']:.3f})"
        rows = [r for r in rows if r["tokens"] >= _FEW_TOKENS]
        axes.plot(
            [r["confidence"] for r in rows], [r["accuracy"] for r in rows], "o-", color=color, label=label, lw=1.4, ms=4
        )
    axes.legend(frameon=False, fontsize=8)
    return figure


def _caught(table: data.Table) -> Any:
    figure, axes = _axes("masked tokens (%)", "wrong tokens caught (%)")
    curves = [(name, rows) for name, rows in _groups(table, "name") if rows[0]["kind"] == "threshold"]
    points = [(name, rows) for name, rows in _groups(table, "name") if rows[0]["kind"] == "masks"]
    for style, groups in (("o-", curves), ("D", points)):
        for color, (name, rows) in zip(COLORS * 9, groups, strict=False):
            xs, ys = [100 * r["masked_share"] for r in rows], [100 * r["errors_caught"] for r in rows]
            label = name if len(groups) <= _FEW else None
            axes.plot(xs, ys, style, color=color, label=label, lw=1.4, ms=4 if style == "o-" else 6)
            for r, x, y in zip(rows, xs, ys, strict=True):
                axes.annotate(f"{r['threshold']:g}", (x, y), xytext=(4, -9), textcoords="offset points", fontsize=7)
    axes.legend(frameon=False, fontsize=8)
    return figure
