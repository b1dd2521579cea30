"""The page itself: one HTML file that needs no network."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path

from parlab.commands.report.browser import utterances
from parlab.commands.report.contents import Report, read_report
from parlab.commands.report.figures import Picture
from parlab.commands.report.tables import summary
from parlab.errors import UserError, nearest
from parlab.metrics.tables import Cell, Table, write_csv
from parlab.predictions.prediction import Prediction

AUDIO = ("link", "embed", "off")
TITLE = "parlab report"
_BROWSED = 12  # predictions whose utterances go into the page; a sweep has too many for one file
_ASSETS = Path(__file__).parent


def check_audio(audio: str) -> None:
    """Refuse an unknown way to give the audio.

    Raises:
        UserError: it is none of ``AUDIO``.
    """
    if audio not in AUDIO:
        raise UserError(f"the audio option is '{audio}', expected link, embed or off{nearest(audio, AUDIO)}")


def write_report(folders: Sequence[Path], out: Path, title: str = TITLE, audio: str = "link") -> Path:
    """Write a report on folders that ``predict`` or ``sweep`` wrote; the arguments are those of ``write_page``.

    Raises:
        UserError: a folder holds no prediction, or ``audio`` is something else.
    """
    check_audio(audio)
    return write_page(read_report(folders), out, title, audio)


def write_page(report: Report, out: Path, title: str = TITLE, audio: str = "link") -> Path:
    """Write ``out`` (a page), and beside it ``<out>_files`` with a PNG and a CSV of each picture.

    Args:
        audio: ``link`` to the files, ``embed`` small ones, or ``off``.
    """
    files = out.with_suffix("").with_name(out.stem + "_files")
    files.mkdir(parents=True, exist_ok=True)
    main_table = summary(report.predictions, report.drafts)
    write_csv(files / "summary.csv", main_table)
    for name, picture in report.pictures.items():
        picture.figure.savefig(files / f"{name}.png")
        write_csv(files / f"{name}.csv", picture.table)
    browsed = {
        p.name: utterances(p, drafts, out, audio)
        for p, drafts in list(zip(report.predictions, report.drafts, strict=True))[:_BROWSED]
    }
    parts = {
        "TITLE": html.escape(title),
        "SUBTITLE": html.escape(_about(report.predictions)),
        "TABLE": _html_table(main_table),
        "PICTURES": "\n".join(map(_html_picture, report.pictures.values())),
        # "</" would end the script element, wherever it stands.
        "DATA": json.dumps(browsed, ensure_ascii=False).replace("</", "<\\/"),
        "VERSIONS": html.escape(_versions(report.predictions[0])),
    }
    page = (_ASSETS / "page.html").read_text(encoding="utf-8")
    for key, value in parts.items():
        page = page.replace(f"@@{key}@@", value)
    out.write_text(page, encoding="utf-8")
    return out


def _about(predictions: Sequence[Prediction]) -> str:
    first = predictions[0]
    known = {"model": first.metrics.model, "data": first.metrics.data}
    named = "".join(f"; {name} {value}" for name, value in known.items() if value is not None)
    return f"{len(predictions)} predictions, {len(first.records)} utterances{named}"


def _versions(p: Prediction) -> str:
    return ", ".join(f"{name} {version}" for name, version in p.metrics.versions.items() if version)


def _html_picture(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png")
    data, caption = base64.b64encode(buffer.getvalue()).decode(), html.escape(picture.caption)
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
    "search_seconds": "search (s)",
    "latency_p50": "latency p50 (s)",
    "latency_p90": "p90 (s)",
    "peak_memory_bytes": "peak (MiB)",
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


def _html_table(table: Table) -> str:
    columns = [c for c in _HEADS if any(c in row for row in table)]
    head = "".join(f"<th>{_HEADS[c]}</th>" for c in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_cell(c, row.get(c)))}</td>" for c in columns) + "</tr>" for row in table
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
