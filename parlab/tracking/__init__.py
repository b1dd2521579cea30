"""W&B, which is given what it logs; without a network or a key it costs a warning and nothing else."""

import os

# W&B would report its own errors to its maker, also of offline runs. It reads this when it is imported.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
os.environ.setdefault("WANDB_SILENT", "true")  # it says where it found its key
