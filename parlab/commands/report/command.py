"""The ``report`` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parlab.commands.report.page import write_report
from parlab.options.arguments import Parser
from parlab.predictions.loaded import read_sources
from parlab.predictions.records import write_jsonl
from parlab.tracking.runs import MODES, log_report
from parlab.tracking.workspace import save_workspace, split_project


def main(argv: Sequence[str]) -> int:
    """Run ``report``."""
    parser = Parser.of("report", "Write a self-contained HTML page from predictions or a sweep.")
    parser.add_argument("folders", nargs="*", type=str, help="folders that `predict --out` or `sweep --out` wrote")
    parser.add_argument("--out", type=str, default="report.html", help="the page; pictures and tables go beside it")
    parser.add_argument("--title", type=str, default="parlab report", help="title of the page")
    parser.add_argument("--audio", type=str, default="link", help="'link' to audio files, 'embed' small ones, or 'off'")
    parser.add_argument(
        "--leaderboard", type=str | None, default=None, help="export the first prediction as a JSONL manifest"
    )
    parser.add_argument("--wandb", type=str, default="off", help=f"log the pictures and tables: {', '.join(MODES)}")
    parser.add_argument("--project", type=str, default="parlab", help="W&B project")
    parser.add_argument(
        "--workspace", type=str | None, default=None, help="save a W&B workspace in [ENTITY/]PROJECT; needs a key"
    )
    o = parser.parse_args(list(argv))
    folders = [Path(f) for f in o.folders or []]
    if o.workspace is not None:
        print(f"saved the workspace {save_workspace(*split_project(o.workspace), o.title)}")
        if not folders:  # the workspace alone was asked for
            return 0
    page = write_report(folders, Path(o.out), o.title, o.audio)
    print(f"wrote {page} and pictures and tables in {page.with_suffix('')}_files")
    if o.leaderboard:
        export_leaderboard(folders, Path(o.leaderboard))
        print(f"wrote {o.leaderboard}")
    log_report(page.parent, folders, o.wandb, o.project)
    return 0


def export_leaderboard(folders: Sequence[Path], out: Path) -> None:
    """The Open ASR Leaderboard's manifest: ``audio_filepath``, ``duration``, ``time``, ``text``, ``pred_text``."""
    first = read_sources(folders)[0]
    write_jsonl(
        out,
        [
            {
                "audio_filepath": r.get("audio", r["id"]),
                "duration": r["duration"],
                "time": r["seconds"],
                "text": first.normalized(r["ref"]) if r.get("ref") is not None else "",
                "pred_text": first.normalized(r["text"]),
            }
            for r in first.records
        ],
    )
