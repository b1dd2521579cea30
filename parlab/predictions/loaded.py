"""Predictions read back from their folders, for comparing and reporting.

The contract's keys are enough; what else ``predict`` writes (docs/architecture.md) is used where it is there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parlab.errors import UserError
from parlab.metrics.wer import ErrorCounts, char_errors, word_errors
from parlab.text.normalizer import normalizer

NO_NORMALIZER = {"name": "none", "version": "1"}


@dataclass(frozen=True)
class Prediction:
    """One prediction folder: its metrics and its utterances, sorted by id."""

    folder: Path
    metrics: dict[str, Any]
    records: list[dict[str, Any]]
    name: str

    @property
    def decoder(self) -> str:
        return str(self.metrics["decoder"]["name"])

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.metrics["decoder"].get("options") or {})

    @property
    def speed(self) -> dict[str, Any]:
        """The speed entry, empty where nothing was timed."""
        return dict(self.metrics.get("speed") or {})

    @property
    def par(self) -> dict[str, Any]:
        """What was masked, empty where the decoder masks nothing."""
        return dict(self.metrics.get("par") or {})

    @property
    def normalizer(self) -> dict[str, Any]:
        """Name and version of the text normaliser that the metrics were computed with."""
        return dict(self.metrics.get("normalizer") or NO_NORMALIZER)

    @property
    def hashes(self) -> dict[str, str]:
        """Hashes of model and data, empty where they were not written."""
        return dict(self.metrics.get("hashes") or {})

    @cached_property
    def scored(self) -> list[dict[str, Any]]:
        """The utterances that have a reference."""
        return [r for r in self.records if r.get("ref") is not None]

    def normalized(self, text: str) -> str:
        """Text as this prediction's metrics saw it."""
        return normalizer(self.normalizer["name"])(text)

    @cached_property
    def word_counts(self) -> list[ErrorCounts]:
        """Word errors of each scored utterance."""
        return [word_errors(self.normalized(r["ref"]), self.normalized(r["text"])) for r in self.scored]

    @cached_property
    def char_counts(self) -> list[ErrorCounts]:
        """Character errors of each scored utterance."""
        return [char_errors(self.normalized(r["ref"]), self.normalized(r["text"])) for r in self.scored]

    @cached_property
    def words_are_tokens(self) -> bool:
        """Whether each token is a word of its own (token types ``word`` and ``phn``), seen from the texts."""
        long = [r for r in self.records if len(r["token_text"]) > 1]
        return bool(long) and all(" ".join(r["token_text"]).split() == r["text"].split() for r in long)

    @property
    def masked_share(self) -> float:
        """Masked tokens per draft token."""
        return float(self.par.get("masked_tokens", 0)) / max(float(self.par.get("tokens", 0)), 1.0)


def read_prediction(folder: Path, name: str | None = None) -> Prediction:
    """Read a folder that ``predict`` or ``sweep`` wrote.

    Raises:
        UserError: files are missing, broken or incomplete.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        # Bytes split at "\n" alone: texts may hold other characters that str.splitlines splits at.
        lines = (folder / "hypotheses.jsonl").read_bytes().split(b"\n")
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{folder} holds no prediction (metrics.json or hypotheses.jsonl is missing or broken); name a folder that "
            "`predict --out` wrote"
        ) from error
    if (
        not isinstance(metrics, dict)
        or not isinstance(metrics.get("decoder"), dict)
        or "name" not in metrics["decoder"]
    ):
        raise UserError(f"{folder}/metrics.json names no decoder, expected what `predict` writes; predict again")
    records = [_record(folder, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    records.sort(key=lambda r: r["id"])
    twice = [i for i, count in Counter(r["id"] for r in records).items() if count > 1]
    if twice:
        raise UserError(
            f"{folder}/hypotheses.jsonl holds '{twice[0]}' more than once, expected each id once; predict again"
        )
    expected = metrics.get("utterances")
    if isinstance(expected, int) and expected != len(records):
        raise UserError(
            f"{folder}/hypotheses.jsonl holds {len(records)} utterances, expected the {expected} of its metrics.json; predict again"
        )
    return Prediction(folder, metrics, records, name or folder.name or str(folder))


def _record(folder: Path, number: int, line: bytes) -> dict[str, Any]:
    """One line, with the optional keys that readers rely on filled in."""
    try:
        record = json.loads(line)
        record = {"segments": [], "tokens": [], **record, "id": str(record["id"]), "text": str(record["text"])}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{folder}/hypotheses.jsonl, line {number} is no utterance (no JSON object with id and text); predict again"
        ) from error
    if record.get("token_text") is None:  # contract files carry ids only: then words stand for tokens
        record["token_text"], record["token_confidence"], record["segments"] = record["text"].split(), [], []
    confidence = list(record.get("token_confidence") or [])
    if len(confidence) != len(record["token_text"]):
        confidence = [None] * len(record["token_text"])
    record["token_confidence"] = confidence
    return record


def read_sources(folders: Sequence[Path]) -> list[Prediction]:
    """Predictions of all folders; names are made unique.

    A folder is a prediction, a sweep (each finished point counts), or a folder of predictions.

    Raises:
        UserError: a folder holds none, or a broken one.
    """
    found: list[Prediction] = []
    for folder in folders:
        inside = folder / "points" if (folder / "points").is_dir() else folder
        below = [inside] if (inside / "metrics.json").is_file() else []
        if not below and inside.is_dir():  # an interrupted sweep has points without metrics; they are not done
            below = sorted(entry for entry in inside.iterdir() if (entry / "metrics.json").is_file())
        found += [read_prediction(entry) for entry in below or [folder]]
    if not found:
        raise UserError("there are no predictions to read, expected folders that `predict` or `sweep` wrote; name one")
    return _named_apart(found)


def _named_apart(found: Sequence[Prediction]) -> list[Prediction]:
    """Names that tell all predictions apart: the folder's, with its parent's, or the whole path."""
    chosen = [str(p.folder) for p in found]
    for names in ([p.name for p in found], [f"{_owner(p.folder)}/{p.name}" for p in found]):
        if len(set(names)) == len(names):
            chosen = names
            break
    return [Prediction(p.folder, p.metrics, p.records, name) for p, name in zip(found, chosen, strict=True)]


def _owner(folder: Path) -> str:
    parent = folder.resolve().parent
    return parent.parent.name if parent.name == "points" else parent.name


def totals(counts: Sequence[ErrorCounts]) -> tuple[np.ndarray, np.ndarray]:
    """Errors and reference lengths per utterance, each (n,)."""
    return np.array([c.errors for c in counts], dtype=float), np.array([c.total for c in counts], dtype=float)
