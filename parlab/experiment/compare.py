"""``compare A B [C ...]``: predictions on the same utterances, and whether their differences are real."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.errors import UserError
from parlab.experiment.arguments import Parser
from parlab.experiment.loaded import Prediction, read_prediction, totals
from parlab.experiment.records import write_json
from parlab.metrics.significance import bootstrap_interval, mapsswe, paired_bootstrap


def main(argv: Sequence[str]) -> int:
    """Run ``compare``."""
    parser = Parser.of("compare", "Compare predictions on the same data: WER, CER, significance, speed.")
    parser.add_argument("folders", nargs="+", type=str, help="folders that `predict --out` wrote; the first is the baseline")
    parser.add_argument("--margin", type=float, default=0.005, help="'no worse than': absolute WER that may be lost")
    parser.add_argument("--json", type=str | None, default=None, help="write everything to this file")
    parser.add_argument("--markdown", type=bool, default=False, help="print the table of systems as Markdown")
    parser.add_argument("--show", type=int, default=10, help="differing utterances to print")
    parser.add_argument("--replicates", type=int, default=10_000, help="bootstrap replicates")
    o = parser.parse_args(list(argv))
    found = [read_prediction(Path(f)) for f in o.folders]
    if len({p.name for p in found}) < len(found):
        found = [read_prediction(Path(f), f) for f in o.folders]
    result = compare(found, o.margin, o.replicates)
    if o.json:
        write_json(Path(o.json), result)
    if o.markdown:
        print(markdown(result))
    else:
        print_comparison(result, o.show)
    return 0


def check_comparable(predictions: Sequence[Prediction]) -> None:
    """Refuse predictions that were not made on the same utterances, references and normalisation.

    Raises:
        UserError: naming what differs.
    """
    if len(predictions) < 2:
        raise UserError("compare got one prediction, expected at least two; name another folder")
    first = predictions[0]
    for other in predictions[1:]:
        names = f"{first.name} and {other.name}"
        a, b = ({r["id"] for r in p.records} for p in (first, other))
        if a != b:
            example = sorted(a ^ b)[0]
            raise UserError(
                f"{names} were made on different utterances ({len(a - b)} only in the first, {len(b - a)} only in the "
                f"second, as '{example}'); predict the same data with both"
            )
        if first.metrics["normalizer"] != other.metrics["normalizer"]:
            raise UserError(
                f"{names} were scored with different normalizers ({first.metrics['normalizer']} and "
                f"{other.metrics['normalizer']}); predict with the same --normalizer"
            )
        for x, y in zip(first.records, other.records, strict=True):
            if x.get("ref") != y.get("ref"):
                raise UserError(f"{names} have different references for '{x['id']}'; predict the same data with both")


def compare(predictions: Sequence[Prediction], margin: float = 0.005, replicates: int = 10_000) -> dict[str, Any]:
    """All systems with intervals, and each one against the first, as a JSON-ready dictionary."""
    check_comparable(predictions)
    systems = [_system(p, replicates) for p in predictions]
    pairs = [_pair(predictions[0], other, margin, replicates) for other in predictions[1:]]
    return {"systems": systems, "pairs": pairs, "margin": margin}


def _speakers(p: Prediction) -> list[str] | None:
    names = [r.get("speaker") for r in p.scored]
    return [str(n) for n in names] if names and all(names) else None


def _system(p: Prediction, replicates: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": p.name, "decoder": p.metrics["decoder"], "utterances": len(p.records)}
    for rate, counts in (("wer", p.word_counts), ("cer", p.char_counts)):
        if counts:
            errors, total = totals(counts)
            low, high = bootstrap_interval(errors, total, replicates=replicates)
            entry[rate] = {**p.metrics[rate], "low": low, "high": high}
    speed = p.speed
    if speed:
        entry["speed"] = {k: speed[k] for k in ("rtfx", "search_seconds", "encode_seconds", "latency_p50", "latency_p90")}
    entry["masked_share"] = p.masked_share
    counts = p.metrics.get("counts", {})
    entry["passes"], entry["steps"] = counts.get("decoder_passes", 0), counts.get("decoder_steps", 0)
    return entry


def _pair(a: Prediction, b: Prediction, margin: float, replicates: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"baseline": a.name, "other": b.name}
    if a.scored:
        errors_a, total = totals(a.word_counts)
        errors_b, _ = totals(b.word_counts)
        by_utterance = paired_bootstrap(errors_a, errors_b, total, replicates=replicates)
        entry["by_utterance"] = dataclasses.asdict(by_utterance)
        speakers = _speakers(a)
        if speakers and len(set(speakers)) > 1:
            entry["by_speaker"] = dataclasses.asdict(paired_bootstrap(errors_a, errors_b, total, speakers, replicates))
        texts = [[p.normalized(r[k]) for r in p.scored] for p, k in ((a, "ref"), (a, "text"), (b, "text"))]
        entry["mapsswe"] = dataclasses.asdict(mapsswe(*texts))
        entry["verdict"] = verdict(by_utterance.low, by_utterance.high, margin)
    entry["differences"] = _differences(a, b)
    if a.speed and b.speed and b.speed["rtfx"] and a.speed["rtfx"]:
        entry["speed_ratio"] = b.speed["rtfx"] / a.speed["rtfx"]
    return entry


def verdict(low: float, high: float, margin: float) -> str:
    """What the 95 % interval of (other - baseline) allows to say."""
    if high < 0:
        return "better"
    if low > 0 and low > margin:
        return f"worse by more than {margin:.2%}"
    if high <= margin:
        return f"no worse than {margin:.2%}"
    return "worse" if low > 0 else f"undecided: it may be worse by up to {high:.2%}"


def _differences(a: Prediction, b: Prediction) -> list[dict[str, Any]]:
    errors = {}
    if a.scored:
        counts = zip(a.scored, a.word_counts, b.word_counts, strict=True)
        errors = {r["id"]: (x.errors, y.errors) for r, x, y in counts}
    found = []
    for x, y in zip(a.records, b.records, strict=True):
        if x["text"] != y["text"]:
            entry = {"id": x["id"], "ref": x.get("ref"), "baseline": x["text"], "other": y["text"]}
            if x["id"] in errors:
                entry |= {"baseline_errors": errors[x["id"]][0], "other_errors": errors[x["id"]][1]}
            found.append(entry)
    found.sort(key=lambda e: (-abs(e.get("other_errors", 0) - e.get("baseline_errors", 0)), e["id"]))
    return found


def markdown(result: dict[str, Any]) -> str:
    """The systems as a Markdown table."""
    lines = [
        "| prediction | WER % [95 %] | CER % | search s | RTFx | decoder passes + steps | masked | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    verdicts = {pair["other"]: pair.get("verdict", "") for pair in result["pairs"]}
    for s in result["systems"]:
        wer = f"{100 * s['wer']['rate']:.2f} [{100 * s['wer']['low']:.1f}, {100 * s['wer']['high']:.1f}]" if "wer" in s else ""
        cer = f"{100 * s['cer']['rate']:.2f}" if "cer" in s else ""
        speed = [f"{s['speed']['search_seconds']:.2f}", f"{s['speed']['rtfx']:.1f}"] if "speed" in s else ["", ""]
        work = f"{s['passes']:.0f} + {s['steps']:.0f}"
        cells = [s["name"], wer, cer, *speed, work, f"{s['masked_share']:.1%}", verdicts.get(s["name"], "baseline")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def print_comparison(result: dict[str, Any], show: int) -> None:
    """Tables for people."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title="systems (95 % bootstrap intervals)")
    for name in ("prediction", "decoder", "WER", "CER", "RTFx", "search s", "masked"):
        table.add_column(name, justify="left" if name in {"prediction", "decoder"} else "right")
    for s in result["systems"]:
        rates = [f"{s[k]['rate']:.2%} [{s[k]['low']:.2%}, {s[k]['high']:.2%}]" if k in s else "" for k in ("wer", "cer")]
        speed = [f"{s['speed']['rtfx']:.1f}", f"{s['speed']['search_seconds']:.2f}"] if "speed" in s else ["", ""]
        table.add_row(s["name"], s["decoder"]["name"], *rates, *speed, f"{s['masked_share']:.1%}")
    console.print(table)
    for pair in result["pairs"]:
        console.print(f"[bold]{pair['other']}[/bold] against {pair['baseline']}")
        for key, what in (("by_utterance", "bootstrap over utterances"), ("by_speaker", "bootstrap over speakers")):
            if key in pair:
                p = pair[key]
                console.print(
                    f"  {what}: {p['difference']:+.2%} [{p['low']:+.2%}, {p['high']:+.2%}], p = {p['p_value']:.4f}"
                )
        if "mapsswe" in pair:
            m = pair["mapsswe"]
            console.print(f"  MAPSSWE: {m['segments']} segments, z = {m['z']:.2f}, p = {m['p_value']:.4f}")
            console.print(f"  verdict: {pair['verdict']}")
        if "speed_ratio" in pair:
            console.print(f"  speed: {pair['speed_ratio']:.2f} x the baseline's RTFx")
        console.print(f"  {len(pair['differences'])} utterances differ")
        for d in pair["differences"][:show]:
            errors = f" ({d['baseline_errors']} -> {d['other_errors']} errors)" if "baseline_errors" in d else ""
            console.print(f"    {d['id']}{errors}", highlight=False, markup=False)
            for key in ("ref", "baseline", "other"):
                console.print(f"      {key:<9}{d[key]}", highlight=False, markup=False)
