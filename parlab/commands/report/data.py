"""The numbers behind each picture, as tables (rows of dictionaries), so that a CSV stands beside each PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parlab.commands.report.drafts import Draft, draft_errors
from parlab.metrics.significance import bootstrap_interval
from parlab.predictions.loaded import Prediction, totals

Table = list[dict[str, Any]]
_INTERVAL_REPLICATES = 2000  # a page may have hundreds of rows
_SAME_RESULT = {"threshold", "max_mask_parallel"}  # options that are axes of pictures, not settings of a line
_SHORT = {"ctc_weight": "w", "beam_size": "beam", "ctc_mode": "", "max_seq_len": "max length", "threshold": "threshold"}


def speed_accuracy(predictions: Sequence[Prediction]) -> Table:
    """WER (with its 95 % interval) and RTFx of each prediction, and whether none beats it in both (Pareto front)."""
    points = []
    for p in predictions:
        if "wer" in p.metrics and p.speed.get("rtfx"):
            low, high = interval(p)
            row = {"name": p.name, "decoder": p.decoder, "wer": p.metrics["wer"]["rate"], "rtfx": p.speed["rtfx"]}
            points.append({**row, "wer_low": low, "wer_high": high})
    for a in points:
        a["front"] = not any(
            b["wer"] <= a["wer"] and b["rtfx"] >= a["rtfx"] and (b["wer"] < a["wer"] or b["rtfx"] > a["rtfx"])
            for b in points
        )
    return points


def interval(p: Prediction) -> tuple[float, float]:
    """95 % interval of the WER, over utterances."""
    if not p.scored:
        rate = p.metrics["wer"]["rate"]
        return rate, rate
    return bootstrap_interval(*totals(p.word_counts), replicates=_INTERVAL_REPLICATES)


def setting(p: Prediction, varied: Sequence[str]) -> str:
    """The options that tell a line of a picture from the others, shortly."""
    return ", ".join(f"{_SHORT.get(k, k)} {p.options.get(k)}".strip() for k in varied) or p.decoder


def varied_options(predictions: Sequence[Prediction], but: set[str] = _SAME_RESULT) -> list[str]:
    """Options that do not have the same value in all predictions."""
    names = list(dict.fromkeys(k for p in predictions for k in p.options if k not in but))
    return [k for k in names if len({repr(p.options.get(k)) for p in predictions}) > 1]


def by_threshold(predictions: Sequence[Prediction]) -> Table:
    """WER and masked share of PAR against its threshold, a row per prediction; ``setting`` names its line."""
    held = [p for p in predictions if p.decoder == "par" and "wer" in p.metrics and "threshold" in p.options]
    varied = varied_options(held)
    rows = [
        {
            "name": p.name,
            "setting": setting(p, varied),
            "threshold": float(p.options["threshold"]),
            "wer": p.metrics["wer"]["rate"],
            "masked_share": p.masked_share,
        }
        for p in held
    ]
    return sorted(rows, key=lambda r: (r["setting"], r["threshold"]))


def by_parallelism(predictions: Sequence[Prediction]) -> Table:
    """Search time of PAR and peak memory of the search alone (sweeps have it) against ``max_mask_parallel`` (-1: all)."""
    held = [
        p
        for p in predictions
        if p.decoder == "par" and "search_seconds" in p.speed and "max_mask_parallel" in p.options
    ]
    varied = varied_options(held, {"max_mask_parallel"})
    rows = [
        {
            "name": p.name,
            "setting": setting(p, varied),
            "max_mask_parallel": int(p.options["max_mask_parallel"]),
            "search_seconds_per_audio_second": p.speed["search_seconds"] / max(p.speed.get("audio_seconds", 0), 1e-9),
            "search_memory_bytes": p.metrics.get("search_memory_bytes"),
        }
        for p in held
    ]
    return sorted(rows, key=lambda r: (r["setting"], r["max_mask_parallel"] % 10**9))


def latency_by_duration(predictions: Sequence[Prediction]) -> Table:
    """Decoding seconds of each utterance against its duration; in a batch, its share of the batch's time."""
    return [
        {
            "name": p.name,
            "id": r["id"],
            "duration": r["duration"],
            "seconds": r["seconds"],
            "batch_size": p.speed.get("batch_size"),
        }
        for p in predictions
        for r in p.records
        if r.get("seconds") is not None and r.get("duration") is not None
    ]


def phases(predictions: Sequence[Prediction]) -> Table:
    """Where the time goes: milliseconds of each phase per second of audio."""
    rows: Table = []
    for p in predictions:
        audio = p.speed.get("audio_seconds")
        if audio and all(f"{k}_seconds" in p.speed for k in ("encode", "ctc", "search")):
            times = {k: 1000 * p.speed[f"{k}_seconds"] / audio for k in ("encode", "ctc", "search")}
            rows.append({"name": p.name, **{f"{k}_ms": v for k, v in times.items()}})
    return rows


def summary(predictions: Sequence[Prediction], own: Sequence[dict[str, Draft]] = ()) -> Table:
    """The main table; with ``own`` (the drafts of each prediction) also the drafts' WER."""
    rows: Table = []
    for i, p in enumerate(predictions):
        row: dict[str, Any] = {"prediction": p.name, "decoder": p.decoder, "utterances": len(p.records)}
        if "wer" in p.metrics:
            low, high = interval(p)
            row |= {"wer": p.metrics["wer"]["rate"], "wer_low": low, "wer_high": high}
        if "cer" in p.metrics:
            row["cer"] = p.metrics["cer"]["rate"]
        if own and own[i] and p.scored and p.par.get("segments"):
            row["draft_wer"] = sum(draft_errors(p, own[i]).values()) / max(sum(c.total for c in p.word_counts), 1)
        keys = (
            "rtfx",
            "search_seconds",
            "latency_p50",
            "latency_p90",
            "latency_p99",
            "peak_memory_bytes",
            "batch_size",
        )
        row |= {k: p.speed[k] for k in keys if k in p.speed}
        if p.par.get("tokens") or p.decoder == "par":
            row |= {"masked_share": p.masked_share, "segments": p.par.get("segments", 0)}
        row["failed"] = len(p.metrics.get("failed", []))
        rows.append(row)
    return rows
