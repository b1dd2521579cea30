"""A comparison written out: tables for a terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from parlab.commands.compare.comparison import Comparison
from parlab.commands.compare.groups import Group
from parlab.commands.compare.pairs import Difference, Significance
from parlab.commands.compare.systems import System
from parlab.metrics.paired import PairedDifference
from parlab.metrics.tables import markdown_row, visible
from parlab.metrics.wer import GAP
from parlab.predictions.rates import RateChange

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def markdown(comparison: Comparison) -> str:
    """The systems as a Markdown table."""
    heads = [
        "prediction",
        "WER % [95 %]",
        "CER %",
        "search (s per s of audio)",
        "RTFx",
        "with loading",
        "decoder passes + steps",
    ]
    lines = [f"| {' | '.join([*heads, 'masked', 'verdict'])} |", f"|{' --- |' * 9}"]
    verdicts = {pair.other: pair.significance.verdict if pair.significance else "" for pair in comparison.pairs}
    for s in comparison.systems:
        cer = f"{100 * s.cer.counts.rate:.2f}" if s.cer else ""
        work = f"{s.passes:.0f} + {s.steps:.0f}"
        cells = [
            cer,
            _search_rtf(s),
            _rtfx(s),
            _rtfx_with_loading(s),
            work,
            f"{s.masked_share:.1%}",
            verdicts.get(s.name, "baseline"),
        ]
        wer = f"{100 * s.wer.counts.rate:.2f} [{100 * s.wer.low:.1f}, {100 * s.wer.high:.1f}]" if s.wer else ""
        # The interval's brackets are no link: what stands around them is ours.
        lines.append(f"{markdown_row([s.name])} {wer} {markdown_row(cells)}")
    return "\n".join(lines)


def _rtfx(system: System) -> str:
    return f"{system.speed.rtfx:.1f}" if system.speed and system.speed.rtfx is not None else ""


def _rtfx_with_loading(system: System) -> str:
    found = system.speed.rtfx_with_loading if system.speed else None
    return "" if found is None else f"{found:.1f}"


def _search_rtf(system: System) -> str:
    """Seconds of search per second of audio: totals of a sample and of a whole set are not comparable."""
    seconds = system.speed.per_audio_second("search") if system.speed else None
    return "" if seconds is None else f"{seconds:.3g}"


def print_comparison(comparison: Comparison, show: int) -> None:
    """Print the systems, then each against the baseline with ``show`` of the utterances that differ."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(_systems(comparison.systems))
    if any(s.confidence for s in comparison.systems):
        console.print(_confidences(comparison.systems))
    for warning in comparison.warnings:
        console.print(Text(f"warning: {warning}"))
    for pair in comparison.pairs:
        console.print(Text("\n") + Text(visible(pair.other), "bold") + Text(f" against {visible(pair.baseline)}"))
        if pair.significance:
            _print_significance(console, pair.significance)
        if pair.speed_ratio is not None:
            ratio = pair.search_time_ratio
            search = "" if ratio is None else f", {ratio:.2f} x its search time per second of audio"
            console.print(f"  speed: {pair.speed_ratio:.2f} x the baseline's RTFx{search}")
        console.print(f"  {len(pair.differences)} utterances differ")
        for difference in pair.differences[:show]:
            _print_difference(console, difference)


def _systems(systems: Sequence[System]) -> Table:
    """Two lines a system, so that 80 columns hold all figures; long names are folded, figures never."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = "systems (in brackets: 95 % bootstrap intervals over utterances)"
    table = Table(title=title, box=SIMPLE_HEAD)
    table.add_column("prediction\ndecoder", overflow="fold")
    for head in ("WER %", "CER %", "RTFx\nwith\nloading", "search\n(s per s)", "masked\n%"):
        table.add_column(head, justify="right", no_wrap=True)
    for s in systems:
        rates = [
            f"{100 * r.counts.rate:.2f}\n[{100 * r.low:.1f}, {100 * r.high:.1f}]" if r else "" for r in (s.wer, s.cer)
        ]
        cells = [*rates, f"{_rtfx(s)}\n{_rtfx_with_loading(s)}", _short(s), f"{100 * s.masked_share:.1f}"]
        name = Text.assemble(visible(s.name), "\n", (visible(s.decoder.name), "dim"))
        table.add_row(name, *map(Text, cells))
    return table


def _confidences(systems: Sequence[System]) -> Table:
    """How far the confidences of each system's tokens can be trusted."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title="confidences of tokens (NCE and areas: higher is better; ECE: lower)", box=SIMPLE_HEAD)
    table.add_column("prediction", overflow="fold")
    for head in ("NCE", "AUC ROC", "AUC PR", "ECE"):
        table.add_column(head, justify="right", no_wrap=True)
    for s in systems:
        if s.confidence:
            found = s.confidence.to_json()
            cells = [f"{found[name]:.3f}" if name in found else "" for name in ("nce", "auc_roc", "auc_pr", "ece")]
            table.add_row(Text(visible(s.name)), *map(Text, cells))
    return table


def _short(system: System) -> str:
    """Search time per second of audio, to a ten-thousandth."""
    seconds = system.speed.per_audio_second("search") if system.speed else None
    return "" if seconds is None else f"{seconds:.4f}" if seconds >= 0.0001 or seconds == 0 else "< 0.0001"


def print_groups(groups: Sequence[Group], names: Sequence[str], by: str, as_markdown: bool) -> None:
    """Print the WER of each system in each group, and the share of utterances with an error."""
    title = f"WER in % by {by}, in brackets utterances with an error in %"
    heads = [by, "utterances", "words", *names]
    rows = [
        [
            g.name,
            str(g.utterances),
            str(g.words),
            *(
                f"{100 * c.rate:.1f} ({100 * wrong / max(g.utterances, 1):.1f})"
                for c, wrong in zip(g.wer, g.wrong, strict=True)
            ),
        ]
        for g in groups
    ]
    if as_markdown:
        print(
            "\n".join(
                ["", f"{title}:", "", markdown_row(heads), markdown_row(["---"] * len(heads)), *map(markdown_row, rows)]
            )
        )
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title)
    for i, head in enumerate(heads):
        table.add_column(Text(visible(head)), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    Console(highlight=False).print(table)


def _print_significance(console: Console, found: Significance) -> None:
    for name, change in (("WER", found.wer), ("CER", found.cer)):
        _print_change(console, name, change)
    m = found.mapsswe
    nist = f"z = {m.z:.2f}, NIST's p = {m.p_normal:.4f}"
    console.print(f"  MAPSSWE: {m.segments} segments, p = {m.p_value:.4f} ({nist})")
    console.print(f"  verdict: [bold]{found.verdict}[/bold]")
    if found.verdict_by_speaker is not None:
        console.print(f"  with speakers as the unit: [bold]{found.verdict_by_speaker}[/bold]")


def _print_change(console: Console, name: str, change: RateChange) -> None:
    def line(units: str, found: PairedDifference) -> None:
        bounds = f"{found.low:+.2%}, {found.high:+.2%}" if found.bounded else "too few for an interval"
        interval = f"\\[{bounds}], p = {found.p_value:.4f}"
        console.print(f"  {name}, paired over {units}: {found.difference:+.2%} {interval}")

    line(f"{change.by_utterance.units} utterances", change.by_utterance)
    if change.by_speaker:
        line(f"{change.speakers} speakers", change.by_speaker)


def _print_difference(console: Console, difference: Difference) -> None:
    from rich.text import Text

    d = difference
    errors = "" if d.baseline_errors is None else f" ({d.baseline_errors} -> {d.other_errors} errors)"
    console.print(Text(f"    {visible(d.id)}{errors}"))
    for name, text in (("ref", d.ref), ("baseline", d.baseline), ("other", d.other)):
        if text is not None:
            console.print(Text(f"      {name:<9}{visible(text)}", style="" if name != "ref" else "dim"))
    changes = Text("      changed  ")
    for i, change in enumerate(d.changes):
        before, after = ("(nothing)" if word == GAP else visible(word) for word in change)
        changes.append(", " if i else "")
        changes.append(before, style="strike")
        changes.append(" -> ")
        changes.append(after, style="bold")
    console.print(changes)
