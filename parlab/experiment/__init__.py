"""Floor 5: training, prediction, sweeps, comparisons, reports, W&B."""
