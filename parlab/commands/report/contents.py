"""What a report shows: predictions, their drafts, the verdict, the main table and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parlab.commands.report.drafts import Drafts, read_drafts
from parlab.commands.report.figures import Picture, draw_pictures
from parlab.commands.report.tables import ThresholdPoint, by_threshold, intervals, summary
from parlab.commands.report.verdict import Verdict, decide
from parlab.metrics.tables import Table
from parlab.predictions.prediction import Prediction, read_predictions


@dataclass(frozen=True)
class Report:
    """Predictions with the drafts of each, what is decided, the points of a threshold, and the pictures by name."""

    predictions: list[Prediction]
    drafts: list[Drafts]
    verdict: Verdict
    summary: Table
    thresholds: list[ThresholdPoint]
    pictures: dict[str, Picture]


def read_report(folders: Sequence[Path]) -> Report:
    """Read folders that ``predict`` or ``sweep`` wrote, and draw their pictures.

    Raises:
        UserError: no folder was named, one was named twice, or one holds no prediction.
    """
    predictions = read_predictions(folders)
    drafts = read_drafts(predictions)
    known = intervals(predictions)
    return Report(
        predictions,
        drafts,
        decide(predictions),
        summary(predictions, known, drafts),
        by_threshold(predictions),
        draw_pictures(predictions, drafts, known),
    )
