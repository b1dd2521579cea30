"""``fit`` and ``validate``."""
