"""``compare``."""
