"""The numbers behind each picture, as tables (rows of dictionaries), so that a CSV stands beside each PNG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from parlab.experiment.loaded import Prediction
from parlab.metrics.wer import GAP, alignment

Table = list[dict[str, Any]]


def speed_accuracy(predictions: Sequence[Prediction]) -> Table:
    """WER and RTFx of each prediction, and whether it is on the Pareto front (none is better in both)."""
    points = [
        {"name": p.name, "decoder": p.decoder, "wer": p.metrics["wer"]["rate"], "rtfx": p.speed["rtfx"]}
        for p in predictions
        if "wer" in p.metrics and p.speed
    ]
    for a in points:
        a["front"] = not any(
            b["wer"] <= a["wer"] and b["rtfx"] >= a["rtfx"] and (b["wer"] < a["wer"] or b["rtfx"] > a["rtfx"]) for b in points
        )
    return points


def by_threshold(predictions: Sequence[Prediction]) -> Table:
    """WER and masked share of PAR against its threshold, a row per prediction."""
    rows = [
        {
            "name": p.name,
            "threshold": p.options["threshold"],
            "wer": p.metrics["wer"]["rate"],
            "masked_share": p.masked_share,
            "beam_size": p.options["beam_size"],
            "ctc_weight": p.options["ctc_weight"],
        }
        for p in predictions
        if p.decoder == "par" and "wer" in p.metrics
    ]
    return sorted(rows, key=lambda r: (r["beam_size"], r["ctc_weight"], r["threshold"]))


def by_parallelism(predictions: Sequence[Prediction]) -> Table:
    """Search time and peak memory of PAR against ``max_mask_parallel`` (-1: all)."""
    rows = [
        {
            "name": p.name,
            "max_mask_parallel": p.options["max_mask_parallel"],
            "threshold": p.options["threshold"],
            "beam_size": p.options["beam_size"],
            "search_seconds_per_audio_second": p.speed["search_seconds"] / max(p.speed["audio_seconds"], 1e-9),
            "peak_memory_bytes": p.speed["peak_memory_bytes"],
        }
        for p in predictions
        if p.decoder == "par" and p.speed
    ]
    return sorted(rows, key=lambda r: (r["threshold"], r["beam_size"], r["max_mask_parallel"] % 10**9))


def latency_by_duration(predictions: Sequence[Prediction]) -> Table:
    """Decoding seconds of each utterance against its duration."""
    return [
        {"name": p.name, "id": r["id"], "duration": r["duration"], "seconds": r["seconds"]}
        for p in predictions
        for r in p.records
        if r.get("seconds") is not None
    ]


def token_errors(record: dict[str, Any], reference: str) -> list[bool]:
    """Whether each token of a hypothesis belongs to a wrong word (tokens are grouped into words by their text)."""
    words: list[list[int]] = []
    text: list[str] = []
    for i, token in enumerate(record["token_text"]):
        if token == "<space>":
            words.append([])
            text.append("")
            continue
        if token.startswith("\u2581") or not words:
            words.append([])
            text.append("")
        words[-1].append(i)
        text[-1] += token.replace("\u2581", "")
    spoken = [(w, t) for w, t in zip(words, text, strict=True) if t]
    wrong = [False] * len(record["token_text"])
    place = 0
    for r, h in alignment(reference.split(), [t for _, t in spoken]):
        if h == GAP:
            continue
        if r != h:
            for i in spoken[place][0]:
                wrong[i] = True
        place += 1
    return wrong


def reliability(predictions: Sequence[Prediction], bins: int = 10) -> Table:
    """Calibration of the tokens' confidence: per bin its mean confidence and the share of tokens in right words."""
    rows: Table = []
    for p in predictions:
        held: dict[int, list[tuple[float, bool]]] = defaultdict(list)
        for r in p.scored:
            for confidence, wrong in zip(r["token_confidence"], token_errors(r, p.normalized(r["ref"])), strict=True):
                held[min(int(confidence * bins), bins - 1)].append((confidence, not wrong))
        for _b, entries in sorted(held.items()):
            rows.append(
                {
                    "name": p.name,
                    "confidence": sum(c for c, _ in entries) / len(entries),
                    "accuracy": sum(right for _, right in entries) / len(entries),
                    "tokens": len(entries),
                }
            )
    return rows


def caught_errors(predictions: Sequence[Prediction]) -> Table:
    """Share of wrong draft tokens that a threshold would mask, against the share of all tokens it masks.

    Taken from greedy predictions, whose tokens are the draft.
    """
    rows: Table = []
    for p in predictions:
        if p.decoder != "greedy":
            continue
        tokens = [
            (confidence, wrong)
            for r in p.scored
            for confidence, wrong in zip(r["token_confidence"], token_errors(r, p.normalized(r["ref"])), strict=True)
        ]
        errors = sum(wrong for _, wrong in tokens)
        for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999):
            masked = [wrong for confidence, wrong in tokens if confidence < threshold]
            rows.append(
                {
                    "name": p.name,
                    "threshold": threshold,
                    "masked_share": len(masked) / max(len(tokens), 1),
                    "errors_caught": sum(masked) / max(errors, 1),
                }
            )
    return rows


def summary(predictions: Sequence[Prediction]) -> Table:
    """The main table."""
    rows: Table = []
    for p in predictions:
        row: dict[str, Any] = {"prediction": p.name, "decoder": p.decoder, "utterances": len(p.records)}
        for rate in ("wer", "cer"):
            if rate in p.metrics:
                row[rate] = p.metrics[rate]["rate"]
        if p.speed:
            row |= {k: p.speed[k] for k in ("rtfx", "search_seconds", "latency_p50", "latency_p90", "peak_memory_bytes")}
        row |= {"masked_share": p.masked_share, "segments": p.metrics["par"]["segments"], "failed": len(p.metrics["failed"])}
        rows.append(row)
    return rows
