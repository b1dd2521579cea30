"""The page itself: one HTML file that needs no network, and runs no script but its own whatever the predictions hold."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from parlab.commands.report.about import about
from parlab.commands.report.audio import AudioLinks, check_audio
from parlab.commands.report.browser import utterances
from parlab.commands.report.contents import Report, read_report
from parlab.commands.report.figures import Picture
from parlab.commands.report.pareto import pareto
from parlab.commands.report.tables import ThresholdPoint
from parlab.errors import UserError
from parlab.metrics.tables import Cell, Table, visible, write_csv
from parlab.predictions.files import Json, writing

TITLE = "parlab report"
_BROWSED = 12  # predictions whose utterances go into the page; a sweep has too many for one file
_ASSETS = Path(__file__).parent
_SCRIPTS = ("wave.js", "page.js", "pareto.js")  # one script of the page, in this order
_PLANE = "wer_rtfx"  # the picture that the page's script draws, from the same rows
_PLACEHOLDER = re.compile(r"@@([A-Z]+)@@")
# Every character that ends a script or a string, or starts markup, in some parser.
_IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def check_out(out: Path) -> None:
    """Refuse a page that cannot be written.

    Raises:
        UserError: it is a folder.
    """
    if out.is_dir():
        raise UserError(f"{out} is a folder, expected the name of a page; name a file such as {out / 'report.html'}")


def write_report(folders: Sequence[Path], out: Path, title: str = TITLE, audio: str = "link") -> Path:
    """Write a report on folders that ``predict`` or ``sweep`` wrote; the arguments are those of ``write_page``.

    Raises:
        UserError: a folder holds no prediction, ``audio`` is something else, or the page cannot be written.
    """
    check_audio(audio)
    check_out(out)
    return write_page(read_report(folders), out, title, audio)


def write_page(report: Report, out: Path, title: str = TITLE, audio: str = "link") -> Path:
    """Write ``out`` (a page), and beside it ``<out>_files`` with a PNG and a CSV of each picture.

    Args:
        audio: ``link`` to the files, ``embed`` small ones, or ``off``.

    Raises:
        UserError: a file cannot be written.
    """
    files = out.with_suffix("").with_name(out.stem + "_files")
    with writing(out):
        files.mkdir(parents=True, exist_ok=True)
        write_csv(files / "summary.csv", report.summary)
        for name, picture in report.pictures.items():
            (files / f"{name}.png").write_bytes(picture.png)
            write_csv(files / f"{name}.csv", picture.table)
    script = "".join((_ASSETS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    style = (_ASSETS / "page.css").read_text(encoding="utf-8")
    browsed, note = _browsed(report, out, audio)
    parts = {
        "POLICY": _policy(script, style),
        "STYLE": style,
        "SCRIPT": script,
        "TITLE": _text(title),
        "SUBTITLE": f"{len(report.predictions)} predictions",
        "VERDICT": "\n".join(f"<p>{_text(sentence)}</p>" for sentence in report.verdict.sentences),
        "TABLE": _html_table(report.summary, _HEADS),
        "ABOUT": _html_headers(about(report.predictions)),
        "PICTURES": "\n".join(_html_picture(picture) for name, picture in report.pictures.items() if name != _PLANE),
        "NOTE": _text(note),
        "DATA": in_script(browsed),
    }
    with writing(out):
        out.write_text(filled((_ASSETS / "page.html").read_text(encoding="utf-8"), parts), encoding="utf-8")
    return out


def filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with each ``@@NAME@@`` replaced, all at once: a placeholder inside a part is text."""
    return _PLACEHOLDER.sub(lambda m: parts[m[1]], template)


def in_script(value: Json) -> str:
    """JSON that no parser of HTML or JavaScript sees anything in but JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_IN_SCRIPT).encode(
        "utf-8", "backslashreplace"
    ).decode()  # fmt: skip


def _policy(script: str, style: str) -> str:
    """A content security policy: no network, this script, this style, pictures of the page, audio beside it."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style))
    own_script, own_style = (f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {own_script}; style-src {own_style}; img-src data:; "
        "media-src data: file: 'self'; base-uri 'none'; form-action 'none'"
    )


def _browsed(report: Report, out: Path, audio: str) -> tuple[dict[str, Json], str]:
    """What the page's script draws, and which utterances are there."""
    v = report.verdict
    named = [p for p in (v.best, v.greedy, v.par, v.ar) if p is not None]
    chosen = {p.name for p in named}
    for p in report.predictions:  # the first ones fill what is left, in their own order
        if len(chosen) < _BROWSED:
            chosen.add(p.name)
    kept = [(p, d) for p, d in zip(report.predictions, report.drafts, strict=True) if p.name in chosen]
    shown, note = utterances([p for p, _ in kept], [d for _, d in kept], AudioLinks(out, audio))
    names = [p.name for p, _ in kept]
    headers = {row["prediction"]: row for row in about(report.predictions)}
    if len(kept) < len(report.predictions):
        note += f" {len(kept)} of the {len(report.predictions)} predictions can be chosen here."
    data: dict[str, Json] = {
        "predictions": [headers[name] for name in names],
        "best": names.index(v.best.name) if v.best else 0,
        "beside": [names.index(p.name) for p in (v.greedy, v.par, v.ar) if p is not None],
        "utterances": shown,
        "thresholds": _thresholds(report.thresholds),
    }
    if _PLANE in report.pictures:
        data["plane"] = pareto(report.predictions, report.pictures[_PLANE].table)
    return data, note


def _thresholds(points: Sequence[ThresholdPoint]) -> list[Json]:
    """Lines of at least two thresholds."""
    lines: dict[str, list[Json]] = {}
    for p in points:
        lines.setdefault(p.setting, []).append([p.threshold, p.wer, p.masked_share, p.rtfx, p.name])
    return [{"setting": name, "points": line} for name, line in lines.items() if len(line) > 1]


def _text(text: str) -> str:
    return html.escape(visible(text)).encode("utf-8", "backslashreplace").decode()


def _html_picture(picture: Picture) -> str:
    data, caption = base64.b64encode(picture.png).decode(), _text(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


_HEADS = {
    "prediction": "prediction",
    "decoder": "decoder",
    "utterances": "utterances",
    "wer": "WER",
    "wer_low": "95 % from",
    "wer_high": "to",
    "cer": "CER",
    "draft_wer": "draft's WER",
    "rtfx": "RTFx",
    "rtfx_with_loading": "with loading",
    "search_seconds_per_audio_second": "search (s per s of audio)",
    "latency_p50": "latency p50 (s)",
    "latency_p90": "p90 (s)",
    "peak_memory_bytes": "peak (MiB)",
    "joules_per_audio_hour": "J per hour of audio",
    "masked_share": "masked",
    "segments": "segments",
    "failed": "failed",
}


def _cell(name: str, value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if name in {"wer", "wer_low", "wer_high", "draft_wer", "cer", "masked_share"}:
        return f"{value:.2%}"
    if name == "peak_memory_bytes":
        return f"{value / 2**20:.0f}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _html_headers(headers: list[dict[str, str]]) -> str:
    """What all predictions share once, and a table of what they do not."""
    shared = {name: text for name, text in headers[0].items() if all(row[name] == text for row in headers)}
    items = "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>" for name, text in shared.items())
    own = [{name: text for name, text in row.items() if name not in shared} for row in headers]
    return (f'<dl class="header">{items}</dl>' if shared else "") + (_html_table(own) if own[0] else "")


def _html_table(table: Table | list[dict[str, str]], heads: Mapping[str, str] | None = None) -> str:
    known = heads or {name: name for row in table for name in row}
    columns = [c for c in known if any(c in row for row in table)]
    head = "".join(f"<th>{known[c]}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(_cell(c, row.get(c)))}</td>" for c in columns) + "</tr>" for row in table
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
