"""Systems of which only texts are known: their files, joined with references, are predictions that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from parlab.errors import UserError
from parlab.metrics.speed import rtf, rtfx
from parlab.predictions.formats.manifests import read_manifest
from parlab.predictions.formats.texts import read_kaldi_text, read_trn, trn_id
from parlab.predictions.formats.timed import StmSegment, read_ctm, read_stm, texts_of_segments
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.metrics import Metrics, Named, NormalizerVersion, Speed
from parlab.predictions.prediction import Prediction, named_apart, read_predictions
from parlab.predictions.summary import error_rates
from parlab.text.normalizer import normalizer

_KINDS = {".trn": "trn", ".ctm": "ctm", ".stm": "stm", ".jsonl": "manifest", ".json": "manifest"}


def kind_of(path: Path) -> str:
    """The format of a file, by the ending of its name: Kaldi's ``text`` where it is none of the others."""
    return _KINDS.get(path.suffix.lower(), "text")


def read_references(path: Path) -> tuple[list[UtteranceRecord], dict[str, StmSegment]]:
    """References of a file: records without a text, and the segments of an ``stm`` by their ids.

    A segment has its recording's name, where it is the only one there, else ``recording-start-end`` in hundredths of a second.

    Raises:
        UserError: the file is none of ``trn``, ``stm``, Kaldi's ``text`` or a manifest.
    """
    kind = kind_of(path)
    if kind == "manifest":
        return [replace(r, text="") for r in read_manifest(path) if r.ref is not None], {}
    if kind == "ctm":
        raise UserError(
            f"{path} is a ctm, expected references as trn, stm, Kaldi's text or a manifest; name such a file"
        )
    if kind != "stm":
        texts = read_trn(path) if kind == "trn" else read_kaldi_text(path)
        return [UtteranceRecord(name, "", ref=text) for name, text in texts.items()], {}
    found = read_stm(path)
    single = {s.recording for s in found if sum(o.recording == s.recording for o in found) == 1}
    segments = {
        s.recording
        if s.recording in single
        else f"{s.recording}-{round(100 * s.start):07d}-{round(100 * s.end):07d}": s
        for s in found
    }
    records = [
        UtteranceRecord(name, "", ref=s.text, speaker=s.speaker, duration=round(s.end - s.start, 4))
        for name, s in segments.items()
    ]
    return records, segments


def read_systems(
    paths: Sequence[Path], references: Path | None = None, normalizer_name: str | None = None
) -> list[Prediction]:
    """Predictions of folders and files, in the order in which they were named.

    Args:
        references: file of references; by default those of the first folder, or of a manifest.
        normalizer_name: of texts; by default that of the first folder, or none.

    Raises:
        UserError: a file cannot be read, has other utterances than the references, or there are no references.
    """
    if not any(path.is_file() for path in paths):
        return read_predictions(paths)
    named: set[Path] = set()
    for path in paths:
        if path.resolve() in named:
            raise UserError(f"{path} was named twice, expected each prediction once; leave one of the two out")
        named.add(path.resolve())
    folders = {path: read_predictions([path]) for path in paths if not path.is_file()}
    first = next((found[0] for found in folders.values()), None)
    version = first.metrics.normalizer if first else _version(normalizer_name or "none")
    known, segments = read_references(references) if references else (first.records if first else None, {})
    found: list[Prediction] = []
    for path in paths:
        found += folders[path] if path in folders else [_read_file(path, known, segments, version)]
    return named_apart(found)


def _version(name: str) -> NormalizerVersion:
    chosen = normalizer(name)
    return NormalizerVersion(chosen.name, chosen.version)


def _read_file(
    path: Path,
    references: Sequence[UtteranceRecord] | None,
    segments: dict[str, StmSegment],
    version: NormalizerVersion,
) -> Prediction:
    """A file's texts, joined with the references; a manifest has its own where none are given."""
    kind = kind_of(path)
    if kind == "stm":
        raise UserError(f"{path} is an stm, which holds references; name it with --references")
    if kind == "manifest" and references is None:
        return _prediction(path, kind, read_manifest(path), version)
    if references is None:
        raise UserError(
            f"{path} has no references, expected those of a folder that `predict --out` wrote, or a file; name one (--references FILE)"
        )
    spoken: dict[str, UtteranceRecord] = {}
    if kind == "ctm":
        of = segments or {r.id: StmSegment(r.id, "1", "", 0.0, float("inf"), r.ref or "") for r in references}
        texts = texts_of_segments(read_ctm(path), of)
    elif kind == "manifest":
        spoken = {r.id: r for r in read_manifest(path)}
        texts = {name: r.text for name, r in spoken.items()}
    else:
        texts = read_trn(path) if kind == "trn" else read_kaldi_text(path)
    aliases = {r.id: r.id for r in references} | {trn_id(r): r.id for r in references if kind == "trn"}
    by_id = {aliases.get(name, name): text for name, text in texts.items()}
    missing = [r.id for r in references if r.id not in by_id]
    unknown = sorted(by_id.keys() - {r.id for r in references})
    if missing or unknown:
        example = f"no '{missing[0]}'" if missing else f"'{unknown[0]}' besides"
        raise UserError(
            f"{path} lacks {len(missing)} of the {len(references)} utterances and has {len(unknown)} others ({example}), expected the same "
            "ids; name the texts of the same data"
        )
    bare = (
        {"id": r.id, "ref": r.ref, "speaker": r.speaker, "duration": r.duration, "audio": r.audio} for r in references
    )
    records = [UtteranceRecord.from_json({**entry, "text": by_id[str(entry["id"])]}) for entry in bare]
    records = [replace(r, seconds=spoken[r.id].seconds) if r.id in spoken else r for r in records]
    return _prediction(path, kind, records, version)


def _prediction(path: Path, kind: str, records: Sequence[UtteranceRecord], version: NormalizerVersion) -> Prediction:
    """A prediction of which nothing but texts is known, and speed where the file has times."""
    wer, cer = error_rates(records, normalizer(version.name))
    speed = None
    seconds = [r.seconds for r in records if r.seconds is not None and r.duration]
    if records and len(seconds) == len(records):
        audio = sum(r.duration or 0.0 for r in records)
        speed = Speed(audio_seconds=audio, rtf=rtf(audio, sum(seconds)), rtfx=rtfx(audio, sum(seconds)))
    scored = sum(r.ref is not None for r in records)
    metrics = Metrics(
        Named(kind), wer=wer, cer=cer, speed=speed, utterances=len(records), scored=scored, normalizer=version
    )
    return Prediction(path, metrics, sorted(records, key=lambda r: r.id), path.name)
