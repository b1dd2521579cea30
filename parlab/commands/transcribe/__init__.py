"""``transcribe``: the text of audio files, at once."""

from parlab.commands.transcribe.command import main

__all__ = ["main"]
