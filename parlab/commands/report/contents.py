"""What a report shows: predictions, their drafts and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parlab.commands.report.drafts import Drafts, read_drafts
from parlab.commands.report.figures import Picture, draw_pictures
from parlab.predictions.prediction import Prediction, read_predictions


@dataclass(frozen=True)
class Report:
    """Predictions with the drafts of each, and the pictures by name."""

    predictions: list[Prediction]
    drafts: list[Drafts]
    pictures: dict[str, Picture]


def read_report(folders: Sequence[Path]) -> Report:
    """Read folders that ``predict`` or ``sweep`` wrote, and draw their pictures.

    Raises:
        UserError: a folder holds no prediction.
    """
    predictions = read_predictions(folders)
    drafts = read_drafts(predictions)
    return Report(predictions, drafts, draw_pictures(predictions, drafts))
