"""The audio of a page: links to files, or small files inside it. What is no audio is neither linked nor embedded."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from parlab.errors import UserError, nearest

WAYS = ("link", "embed", "off")
_EMBED_BYTES = 200_000
_KINDS = {"WAV": "wav", "WAVEX": "wav", "FLAC": "flac", "OGG": "ogg", "MP3": "mpeg", "MPEG": "mpeg"}


def check_audio(audio: str) -> None:
    """Refuse an unknown way to give the audio.

    Raises:
        UserError: it is none of ``WAYS``.
    """
    if audio not in WAYS:
        raise UserError(f"the audio option is '{audio}', expected link, embed or off{nearest(audio, WAYS)}")


@dataclass(frozen=True)
class AudioLinks:
    """Sources of ``<audio>`` elements in ``page``: ``way`` is one of ``WAYS``."""

    page: Path
    way: str

    def source(self, path: str | None) -> str | None:
        """A relative address or a ``data:`` URL; None for what is no file that holds audio, or is too large to embed."""
        if self.way == "off" or not path:
            return None
        try:
            file = Path(path)
            kind = _kind(file) if file.is_file() else None
            if kind is None:
                return None
            if self.way == "link":
                # Percent-encoded, so that no name is read as a scheme, a query or a fragment.
                return quote(os.path.relpath(file.resolve(), self.page.resolve().parent).replace(os.sep, "/"))
            if file.stat().st_size > _EMBED_BYTES:
                return None
            return f"data:audio/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
        except (OSError, ValueError):  # not readable, another drive, or no path at all
            return None


def _kind(file: Path) -> str | None:
    """What the file's content, whatever its name, is to a browser; None where soundfile decodes nothing."""
    import soundfile

    try:
        with file.open("rb") as content, soundfile.SoundFile(content) as audio:  # by content: a name may say anything
            return _KINDS.get(audio.format) if len(audio.read(1)) else None
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError):
        return None
