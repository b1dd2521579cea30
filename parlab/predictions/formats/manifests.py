"""The Open ASR Leaderboard's manifests: a JSON object a line, with ``audio_filepath``, ``duration``, ``time``, ``text``, ``pred_text``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from parlab.errors import UserError
from parlab.predictions.files import Entry
from parlab.predictions.formats.texts import numbered
from parlab.predictions.hypotheses import UtteranceRecord


def read_manifest(path: Path) -> list[UtteranceRecord]:
    """The utterances of a manifest: ``pred_text`` is the text, ``text`` the reference, ``time`` the seconds of decoding.

    The id is ``id``, which parlab writes, else ``audio_filepath``.

    Raises:
        UserError: a line is no JSON object with an id and ``pred_text``, or an id occurs twice.
    """
    found: dict[str, UtteranceRecord] = {}
    for number, line in numbered(path):
        try:
            entry = json.loads(line)
            name = str(entry.get("id") or entry["audio_filepath"])
            told = {"ref": entry.get("text"), "speaker": entry.get("speaker"), "audio": entry["audio_filepath"]}
            times = {"duration": _number(entry.get("duration")), "seconds": _number(entry.get("time"))}
            record = UtteranceRecord.from_json({"id": name, "text": entry["pred_text"] or "", **told, **times})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(
                f"{path}, line {number} is no utterance of a manifest, expected a JSON object with audio_filepath and pred_text; correct it"
            ) from error
        if name in found:
            raise UserError(f"{path}, line {number} has the id '{name}' of an earlier line; rename one")
        found[name] = record
    return list(found.values())


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def manifest(records: Sequence[UtteranceRecord], texts: Sequence[str], references: Sequence[str]) -> list[Entry]:
    """The lines of a manifest; ``text`` is empty where there is no reference."""
    return [
        {
            "audio_filepath": r.audio or r.id,
            "duration": r.duration,
            "time": r.seconds,
            "text": reference,
            "pred_text": text,
        }
        for r, text, reference in zip(records, texts, references, strict=True)
    ]
