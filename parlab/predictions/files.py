"""JSON and JSON lines on disk: written whole, read back also after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from parlab.errors import UserError

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Entry = Mapping[str, Json]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a full disk or a missing permission into one sentence.

    Raises:
        UserError: the block failed to write ``path``.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); what was done is kept: make room or name another "
            "--out, then start the same command again"
        ) from error


def write_text(path: Path, text: str) -> Path:
    """Write a text through a temporary file, in a folder that is made where it is missing; returns the path."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(path, text)
    return path


def write_json(path: Path, value: Json) -> None:
    """Write through a temporary file, so that a reader never sees half of it."""
    _write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, entries: Iterable[Entry]) -> None:
    """Write one JSON object a line, through a temporary file."""
    _write_whole(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        with partial.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)


def read_lines(path: Path) -> list[bytes]:
    """The lines of a file that are ended.

    Bytes, because a kill cuts characters in two; split at line feeds alone, because ``str.splitlines`` also splits at
    characters that a text may hold (U+2028, U+0085).
    """
    return path.read_bytes().split(b"\n")[:-1]


def read_jsonl(path: Path) -> list[dict[str, Json]]:
    """Read JSON lines; a half-written line, as a killed process leaves it, is dropped."""
    entries = []
    for line in read_lines(path):
        try:
            entries.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):  # as of a line that a kill cut
            continue
    return entries
