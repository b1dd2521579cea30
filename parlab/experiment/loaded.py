"""Predictions read back from their folders, for comparing and reporting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parlab.data.text import normalizer
from parlab.errors import UserError
from parlab.experiment.records import read_jsonl
from parlab.metrics.wer import ErrorCounts, char_errors, word_errors


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
        return dict(self.metrics["decoder"]["options"])

    @property
    def speed(self) -> dict[str, Any]:
        """The speed entry, empty where nothing was timed."""
        return dict(self.metrics.get("speed") or {})

    @cached_property
    def scored(self) -> list[dict[str, Any]]:
        """The utterances that have a reference."""
        return [r for r in self.records if r.get("ref") is not None]

    def normalized(self, text: str) -> str:
        """Text as this prediction's metrics saw it."""
        return normalizer(self.metrics["normalizer"]["name"])(text)

    @cached_property
    def word_counts(self) -> list[ErrorCounts]:
        """Word errors of each scored utterance."""
        return [word_errors(self.normalized(r["ref"]), self.normalized(r["text"])) for r in self.scored]

    @cached_property
    def char_counts(self) -> list[ErrorCounts]:
        """Character errors of each scored utterance."""
        return [char_errors(self.normalized(r["ref"]), self.normalized(r["text"])) for r in self.scored]

    @property
    def masked_share(self) -> float:
        """Masked tokens per draft token."""
        par = self.metrics["par"]
        return float(par["masked_tokens"]) / max(float(par["tokens"]), 1.0)


def read_prediction(folder: Path, name: str | None = None) -> Prediction:
    """Read a folder that ``predict`` or ``sweep`` wrote.

    Raises:
        UserError: files are missing or broken.
    """
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        records = read_jsonl(folder / "hypotheses.jsonl")
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{folder} holds no prediction (metrics.json or hypotheses.jsonl is missing or broken); name a folder that "
            "`predict --out` wrote"
        ) from error
    return Prediction(folder, metrics, records, name or folder.name)


def read_sources(folders: Sequence[Path]) -> list[Prediction]:
    """Predictions of all folders; a sweep's folder gives one per point. Names are made unique."""
    found: list[Prediction] = []
    for folder in folders:
        points = sorted((folder / "points").iterdir()) if (folder / "sweep.json").is_file() else [folder]
        found += [read_prediction(point) for point in points]
    if not found:
        raise UserError("there are no predictions to read, expected folders that `predict` or `sweep` wrote; name one")
    names = [p.name for p in found]
    if len(set(names)) == len(names):
        return found
    return [Prediction(p.folder, p.metrics, p.records, f"{p.folder.parent.name}/{p.name}") for p in found]


def totals(counts: Sequence[ErrorCounts]) -> tuple[np.ndarray, np.ndarray]:
    """Errors and reference lengths per utterance, each (n,)."""
    return np.array([c.errors for c in counts], dtype=float), np.array([c.total for c in counts], dtype=float)
