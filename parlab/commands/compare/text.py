"""A comparison written out: tables for a terminal, and Markdown."""

from __future__ import annotations

from typing import Any

from parlab.metrics.wer import GAP


def markdown(result: dict[str, Any]) -> str:
    """The systems as a Markdown table."""
    lines = [
        "| prediction | WER % [95 %] | CER % | search s | RTFx | decoder passes + steps | masked | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    verdicts = {pair["other"]: pair.get("verdict", "") for pair in result["pairs"]}
    for s in result["systems"]:
        wer = (
            f"{100 * s['wer']['rate']:.2f} [{100 * s['wer']['low']:.1f}, {100 * s['wer']['high']:.1f}]"
            if "wer" in s
            else ""
        )
        cer = f"{100 * s['cer']['rate']:.2f}" if "cer" in s else ""
        work = f"{s['passes']:.0f} + {s['steps']:.0f}"
        speed = [_number(s, "search_seconds", ".2f"), _number(s, "rtfx", ".1f")]
        cells = [s["name"], wer, cer, *speed, work, f"{s['masked_share']:.1%}", verdicts.get(s["name"], "baseline")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(system: dict[str, Any], key: str, form: str) -> str:
    value = system.get("speed", {}).get(key)
    return "" if value is None else format(value, form)


def print_comparison(result: dict[str, Any], show: int) -> None:
    """Tables for people: the systems, then each against the baseline with ``show`` of the utterances that differ."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title="systems (95 % bootstrap intervals over utterances)")
    for name in ("prediction", "decoder", "WER", "CER", "RTFx", "search s", "masked"):
        table.add_column(name, justify="left" if name in {"prediction", "decoder"} else "right")
    for s in result["systems"]:
        rates = [
            f"{s[k]['rate']:.2%} \\[{s[k]['low']:.2%}, {s[k]['high']:.2%}]" if k in s else "" for k in ("wer", "cer")
        ]
        speed = [_number(s, "rtfx", ".1f"), _number(s, "search_seconds", ".2f")]
        table.add_row(escape(s["name"]), s["decoder"]["name"], *rates, *speed, f"{s['masked_share']:.1%}")
    console.print(table)
    for pair in result["pairs"]:
        console.print(f"\n[bold]{escape(pair['other'])}[/bold] against {escape(pair['baseline'])}")
        _print_statistics(console, pair)
        if "speed_ratio" in pair:
            search = f", {pair['search_time_ratio']:.2f} x its search time" if "search_time_ratio" in pair else ""
            console.print(f"  speed: {pair['speed_ratio']:.2f} x the baseline's RTFx{search}")
        console.print(f"  {len(pair['differences'])} utterances differ")
        for d in pair["differences"][: max(show, 0)]:
            _print_difference(console, d)


def _print_statistics(console: Any, pair: dict[str, Any]) -> None:
    for rate, prefix in (("WER", ""), ("CER", "cer_")):
        for key, what in (("by_utterance", "utterances"), ("by_speaker", "speakers")):
            if prefix + key in pair:
                p = pair[prefix + key]
                what = f"{p['speakers']} {what}" if "speakers" in p else what
                interval = f"\\[{p['low']:+.2%}, {p['high']:+.2%}], p = {p['p_value']:.4f}"
                console.print(f"  {rate}, bootstrap over {what}: {p['difference']:+.2%} {interval}")
    if "mapsswe" in pair:
        m = pair["mapsswe"]
        console.print(f"  MAPSSWE: {m['segments']} segments, z = {m['z']:.2f}, p = {m['p_value']:.4f}")
        console.print(f"  verdict: [bold]{pair['verdict']}[/bold]")
        if pair.get("verdict_by_speaker", pair["verdict"]) != pair["verdict"]:
            console.print(f"  verdict, speakers drawn: [bold]{pair['verdict_by_speaker']}[/bold]")


def _print_difference(console: Any, difference: dict[str, Any]) -> None:
    from rich.text import Text

    errors = ""
    if "baseline_errors" in difference:
        errors = f" ({difference['baseline_errors']} -> {difference['other_errors']} errors)"
    console.print(Text(f"    {difference['id']}{errors}"))
    for key in ("ref", "baseline", "other"):
        if difference[key] is not None:
            console.print(Text(f"      {key:<9}{difference[key]}", style="" if key != "ref" else "dim"))
    changes = Text("      changed  ")
    for i, (before, after) in enumerate(difference["changes"]):
        changes.append(", " if i else "")
        changes.append("(nothing)" if before == GAP else before, style="strike")
        changes.append(" -> ")
        changes.append("(nothing)" if after == GAP else after, style="bold")
    console.print(changes)
