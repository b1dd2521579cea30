"""``bench``: our decoders and ESPnet's side by side, in one run, on the same weights and the same input."""

from parlab.commands.bench.command import main

__all__ = ["main"]
