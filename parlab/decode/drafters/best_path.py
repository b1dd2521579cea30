"""CTC's best path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parlab.decode.draft import Draft, Posteriors, greedy_draft
from parlab.decode.drafters.drafter import Drafter


@dataclass(frozen=True)
class BestPath(Drafter):
    """The best label of each frame, repeats collapsed and blanks dropped."""

    name: ClassVar[str] = "best_path"
    follows_best_path: ClassVar[bool] = True

    def draft(self, posteriors: Posteriors) -> Draft:
        return greedy_draft(posteriors.log_probs, posteriors.frames, posteriors.blank)
