"""An utterance, and the text files that name utterances."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parlab.errors import UserError

S2T_FIELDS = ("text_prev", "text_ctc", "lang", "task")
LONGEST = 1e7  # seconds of a recording: four months; a larger number is a slip, in other units


@dataclass(frozen=True)
class Utterance:
    """A part of an audio file with its text. ``start`` and ``duration`` are seconds; ``extra`` holds S2T fields and the rest."""

    id: str
    audio: Path
    text: str | None = None
    duration: float | None = None
    speaker: str | None = None
    start: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict)


def bad_name(name: str) -> str | None:
    """Why an id or a file name cannot stand in the files of a prediction, or None: control characters, bytes that are no text."""
    if control := next((c for c in name if c != "\t" and (c < " " or c == "\x7f")), None):
        return f"the control character {control!r}"
    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
        return "bytes that are no UTF-8 text"
    return None


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file, plain or ``.gz``, cut at line feeds only.

    ``str.splitlines`` would also cut at U+2028 and its like, which may stand in the text of an utterance.

    Raises:
        UserError: the file is missing, unreadable, or no UTF-8 text.
    """
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text (byte {error.start}); convert it to UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}); check the file") from error


def find_relative(name: str, folder: Path) -> Path:
    """The file that ``name``, written in a file of ``folder``, stands for.

    Kaldi and Lhotse write paths relative to wherever the recipe ran, so ``folder`` is tried, then three folders above
    it, then the working folder. A file that is nowhere is found missing when it is loaded.
    """
    path = Path(name).expanduser()
    bases = [folder, *list(folder.resolve().parents)[:3], Path()]
    return next((base / path for base in bases if (base / path).is_file()), folder / path)
