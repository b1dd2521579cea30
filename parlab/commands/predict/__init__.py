"""``predict`` and ``rerun``."""
