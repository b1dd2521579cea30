"""``compare A B [C ...]``: predictions on the same utterances, and whether their differences are real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from parlab.commands.compare.comparison import check_options, compare
from parlab.commands.compare.groups import check_grouping, groups_of
from parlab.commands.compare.text import markdown, print_comparison, print_groups
from parlab.errors import UserError
from parlab.metrics.significance import REPLICATES
from parlab.options.parser import Parser
from parlab.predictions.files import write_json
from parlab.predictions.formats.systems import read_systems
from parlab.predictions.hypotheses import no_collection
from parlab.predictions.rates import MARGIN


def make_parser() -> Parser:
    """The options of ``compare``."""
    parser = Parser.of("compare", "Compare predictions on the same data: WER, CER, significance, speed.")
    parser.add_argument(
        "folders",
        nargs="*",
        type=str,
        help="folders that `predict --out` wrote, or files of texts (.trn, .ctm, Kaldi text, leaderboard manifest .jsonl); the first is "
        "the baseline",
    )
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help="'no worse than': absolute WER that may be lost (a fraction)"
    )
    parser.add_argument(
        "--references",
        type=str | None,
        default=None,
        help="references of files (.trn, .stm, Kaldi text, manifest); else the first folder's",
    )
    parser.add_argument(
        "--normalizer",
        type=str | None,
        default=None,
        help="of texts where only files are compared; else the first folder's",
    )
    parser.add_argument("--by", type=str | None, default=None, help="also a table of WER by speaker or by duration")
    parser.add_argument("--json", type=str | None, default=None, help="write everything to this file")
    parser.add_argument("--markdown", type=bool, default=False, help="print the table of systems as Markdown")
    parser.add_argument("--show", type=int, default=10, help="differing utterances to print")
    parser.add_argument("--replicates", type=int, default=REPLICATES, help="bootstrap replicates")
    return parser


@no_collection()
def main(argv: Sequence[str]) -> int:
    """Run ``compare``.

    Raises:
        UserError: the predictions cannot be compared, or an option has an impossible value.
    """
    options = make_parser().read(argv)
    check_options(options.margin, options.replicates)
    if options.show < 0:
        raise UserError(f"show is {options.show}, expected 0 or more utterances to print; leave it out for 10")
    if not options.folders:
        raise UserError("compare got no folder, expected at least two that `predict --out` wrote; name them")
    if options.json and not Path(options.json).absolute().parent.is_dir():
        raise UserError(f"{options.json} cannot be written, expected a file in a folder that exists; make the folder")
    check_grouping(options.by)
    references = Path(options.references) if options.references else None
    predictions = read_systems([Path(f) for f in options.folders], references, options.normalizer)
    comparison = compare(predictions, options.margin, options.replicates)
    groups = groups_of(predictions, options.by) if options.by else ()
    if options.json:
        entry = comparison.to_json()
        write_json(Path(options.json), {**entry, "groups": [g.to_json() for g in groups]} if groups else entry)
    if options.markdown:
        print(markdown(comparison))
    else:
        print_comparison(comparison, options.show)
    if groups:
        print_groups(groups, [p.name for p in predictions], options.by, options.markdown)
    return 0
