"""The ``report`` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parlab.commands.report.audio import check_audio
from parlab.commands.report.contents import Report, read_report
from parlab.commands.report.page import TITLE, check_out, write_page
from parlab.errors import UserError
from parlab.options.parser import Parser
from parlab.predictions.files import write_jsonl
from parlab.predictions.formats.manifests import manifest
from parlab.predictions.hypotheses import no_collection
from parlab.predictions.prediction import Prediction
from parlab.tracking.runs import MODES, RunOptions, log_report, resolve_mode
from parlab.tracking.workspace import save_workspace, split_project


def make_parser() -> Parser:
    """The options of ``report``."""
    parser = Parser.of("report", "Write a self-contained HTML page from predictions or a sweep.")
    parser.add_argument("folders", nargs="*", type=str, help="folders that `predict --out` or `sweep --out` wrote")
    parser.add_argument("--out", type=str, default="report.html", help="the page; pictures and tables go beside it")
    parser.add_argument("--title", type=str, default=TITLE, help="title of the page")
    parser.add_argument("--audio", type=str, default="link", help="'link' to audio files, 'embed' small ones, or 'off'")
    parser.add_argument(
        "--leaderboard", type=str | None, default=None, help="export the first prediction as a JSONL manifest"
    )
    parser.add_argument("--wandb", type=str, default="off", help=f"log the pictures and tables: {', '.join(MODES)}")
    parser.add_argument("--project", type=str, default="parlab", help="W&B project")
    parser.add_argument(
        "--workspace", type=str | None, default=None, help="save a W&B workspace in [ENTITY/]PROJECT; needs a key"
    )
    return parser


@no_collection()
def main(argv: Sequence[str]) -> int:
    """Run ``report``.

    Raises:
        UserError: a folder holds no prediction, an option has an impossible value, or W&B refuses the workspace.
    """
    options = make_parser().read(argv)
    resolve_mode(options.wandb)
    folders = [Path(f) for f in options.folders or []]
    check_audio(options.audio)
    check_out(Path(options.out))
    if not folders and options.workspace is None:
        raise UserError("report got no folder, expected folders that `predict` or `sweep` wrote; name one")
    if options.workspace is not None:
        print(f"saved the workspace {save_workspace(*split_project(options.workspace), options.title)}")
        if not folders:  # only the workspace was asked for
            return 0
    report = read_report(folders)
    page = write_page(report, Path(options.out), options.title, options.audio)
    print(f"wrote {page} and pictures and tables in {page.with_suffix('')}_files")
    if options.leaderboard:
        export_leaderboard(report.predictions[0], Path(options.leaderboard))
        print(f"wrote {options.leaderboard}")
    _log(report, RunOptions(options.wandb, options.project, page.parent))
    return 0


def _log(report: Report, options: RunOptions) -> None:
    """Log the pictures and tables to W&B."""
    pictures = {name: (picture.figure, picture.caption) for name, picture in report.pictures.items()}
    tables = {"summary": report.summary}
    tables |= {name: picture.table for name, picture in report.pictures.items()}
    log_report(options, pictures, tables)


def export_leaderboard(p: Prediction, out: Path) -> None:
    """Write the Open ASR Leaderboard's manifest: ``audio_filepath``, ``duration``, ``time``, ``text``, ``pred_text``."""
    texts = [p.normalized(r.text) for r in p.records]
    write_jsonl(out, manifest(p.records, texts, [p.reference(r) for r in p.records]))
