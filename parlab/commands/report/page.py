"""The page itself: one HTML file that needs no network."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.commands.report.browser import utterances
from parlab.commands.report.data import Table, summary
from parlab.commands.report.drafts import drafts
from parlab.commands.report.figures import figures
from parlab.errors import UserError, nearest
from parlab.predictions.loaded import Prediction, read_sources

_BROWSED = 12  # predictions whose utterances go into the page; a sweep has too many for one file
_ASSETS = Path(__file__).parent


def write_report(sources: Sequence[Path], out: Path, title: str = "parlab report", audio: str = "link") -> Path:
    """Write ``out`` (a page), and beside it ``<out>_files`` with a PNG and a CSV of each picture.

    Args:
        sources: folders that ``predict`` or ``sweep`` wrote.
        audio: ``link`` to the files, ``embed`` small ones, or ``off``.

    Raises:
        UserError: a folder holds no prediction, or ``audio`` is something else.
    """
    if audio not in {"link", "embed", "off"}:
        raise UserError(
            f"the audio option is '{audio}', expected link, embed or off{nearest(audio, ['link', 'embed', 'off'])}"
        )
    predictions = read_sources(sources)
    files = out.with_suffix("").with_name(out.stem + "_files")
    files.mkdir(parents=True, exist_ok=True)
    own = drafts(predictions)
    main_table = summary(predictions, own)
    write_csv(files / "summary.csv", main_table)
    pictures = []
    for name, (figure, table, caption) in figures(predictions).items():
        figure.savefig(files / f"{name}.png")
        write_csv(files / f"{name}.csv", table)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        data = base64.b64encode(buffer.getvalue()).decode()
        pictures.append(
            f'<figure><img alt="{html.escape(caption)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    browsed = {p.name: utterances(p, d, out, audio) for p, d in list(zip(predictions, own, strict=True))[:_BROWSED]}
    first = predictions[0].metrics
    page = (_ASSETS / "page.html").read_text(encoding="utf-8")
    parts = {
        "TITLE": html.escape(title),
        "SUBTITLE": html.escape(_about(predictions[0], len(predictions))),
        "TABLE": _html_table(main_table),
        "PICTURES": "\n".join(pictures),
        # "</" would end the script element, whatever it stands in.
        "DATA": json.dumps(browsed, ensure_ascii=False).replace("</", "<\\/"),
        "VERSIONS": html.escape(", ".join(f"{k} {v}" for k, v in first.get("versions", {}).items() if v)),
    }
    for key, value in parts.items():
        page = page.replace(f"@@{key}@@", value)
    out.write_text(page, encoding="utf-8")
    return out


def _about(first: Prediction, count: int) -> str:
    m = first.metrics
    named = "".join(f"; {key} {m[key]}" for key in ("model", "data") if key in m)
    return f"{count} predictions, {len(first.records)} utterances{named}"


def write_csv(path: Path, table: Table) -> None:
    """Write a table; the columns are those of all rows."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)


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
    "search_seconds": "search (s)",
    "latency_p50": "latency p50 (s)",
    "latency_p90": "p90 (s)",
    "peak_memory_bytes": "peak (MiB)",
    "masked_share": "masked",
    "segments": "segments",
    "failed": "failed",
}


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in {"wer", "wer_low", "wer_high", "draft_wer", "cer", "masked_share"}:
        return f"{value:.2%}"
    if name == "peak_memory_bytes":
        return f"{value / 2**20:.0f}"
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 100
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


def _html_table(table: Table) -> str:
    columns = [c for c in _HEADS if any(c in row for row in table)]
    head = "".join(f"<th>{_HEADS[c]}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(c, row.get(c)))}</td>" for c in columns) + "</tr>" for row in table
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
