"""``export DIR``: the texts of a prediction in the formats of other tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from parlab.errors import UserError, nearest
from parlab.options.parser import Parser
from parlab.predictions.files import write_jsonl, write_text
from parlab.predictions.formats.manifests import manifest
from parlab.predictions.formats.texts import kaldi_text, trn, trn_id
from parlab.predictions.formats.timed import ctm, stm
from parlab.predictions.prediction import Prediction, read_prediction

FORMATS = ("trn", "ctm", "stm", "text", "manifest")


@dataclass(frozen=True)
class ExportOptions:
    """What is written where.

    Attributes:
        out: folder for the files
        formats: trn (hyp.trn, ref.trn) and ctm (hyp.ctm), stm (ref.stm) for SCTK, text (Kaldi's text and ref.text),
            manifest (of the Open ASR Leaderboard)
        normalize: write texts and references as the prediction's normalizer has them, else as they are
    """

    out: str = ""
    formats: list[str] = field(default_factory=lambda: ["trn", "text", "manifest"])
    normalize: bool = True


def main(argv: Sequence[str]) -> int:
    """Run ``export``.

    Raises:
        UserError: there is no prediction, or it lacks what a format needs.
    """
    parser = Parser.of(
        "export", "The texts of a prediction as trn, ctm, stm (SCTK), Kaldi text, Open ASR Leaderboard manifest."
    )
    parser.add_argument("folder", type=str, help="folder that `predict --out` wrote")
    parser.add_class_arguments(ExportOptions)
    given = parser.read(argv)
    options = ExportOptions(given.out, list(given.formats), given.normalize)
    if not options.out:
        raise UserError("export got no folder for its files; name one (--out DIR)")
    for name in options.formats:
        if name not in FORMATS:
            raise UserError(f"there is no format '{name}', expected {', '.join(FORMATS)}{nearest(name, FORMATS)}")
    for path in export(read_prediction(Path(given.folder)), options):
        print(f"wrote {path}")
    return 0


def export(prediction: Prediction, options: ExportOptions) -> list[Path]:
    """Write the files and return their paths; references are written where there are any.

    Raises:
        UserError: the prediction lacks what a format needs, or a file cannot be written.
    """
    out = Path(options.out)
    shown = prediction.normalized if options.normalize else lambda text: " ".join(text.split())
    records, scored = prediction.records, prediction.scored
    texts, references = [shown(r.text) for r in records], [shown(r.ref or "") for r in records]
    known = [shown(r.ref or "") for r in scored]
    contents: dict[str, str] = {}
    if "trn" in options.formats:
        contents["hyp.trn"] = trn([trn_id(r) for r in records], texts)
        contents["ref.trn"] = trn([trn_id(r) for r in scored], known)
    if "ctm" in options.formats:
        contents["hyp.ctm"] = ctm(records, shown)
    if "stm" in options.formats:
        contents["ref.stm"] = stm(scored, known)
    if "text" in options.formats:
        contents["text"] = kaldi_text([r.id for r in records], texts)
        contents["ref.text"] = kaldi_text([r.id for r in scored], known)
    written = [write_text(out / name, text) for name, text in contents.items() if text or not name.startswith("ref")]
    if "manifest" in options.formats:
        path = out / "manifest.jsonl"
        write_text(path, "")  # makes the folder
        lines = manifest(records, texts, references)
        write_jsonl(path, [{**line, "id": r.id} for line, r in zip(lines, records, strict=True)])
        written.append(path)
    return written
