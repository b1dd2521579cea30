"""Other libraries' chatter, switched off."""

from __future__ import annotations

import logging
import sys
import warnings

_MESSAGES = (
    ".*isinstance\\(treespec.*",
    ".*eagerly read CutSet.*",
    ".*litlogger.*",
    ".*does not have many workers.*",
)


def quiet_libraries() -> None:
    """Silence what says nothing about the user's run."""
    for message in _MESSAGES:
        warnings.filterwarnings("ignore", message=message)
    warnings.filterwarnings("ignore", category=UserWarning, module="lightning.*")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", category=DeprecationWarning)
