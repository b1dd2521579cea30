"""W&B: runs and workspaces."""
