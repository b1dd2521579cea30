"""Lines of text with an id: SCTK's ``trn`` (``words (id)``) and Kaldi's ``text`` (``id words``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from parlab.data.utterance import read_lines
from parlab.errors import UserError
from parlab.predictions.hypotheses import UtteranceRecord

Texts = dict[str, str]  # by id


def numbered(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file that say something, with their numbers; ``;;`` begins a comment.

    Raises:
        UserError: the file is missing, unreadable, or no UTF-8 text.
    """
    for number, line in enumerate(read_lines(path), 1):
        if line.strip() and not line.startswith(";;"):
            yield number, line.strip()


def read_trn(path: Path) -> Texts:
    """The texts of a ``trn`` file.

    Raises:
        UserError: a line is none of ``trn``, or an id occurs twice.
    """
    texts: Texts = {}
    for number, line in numbered(path):
        found = re.fullmatch(r"(.*?)\s*\(([^()\s]+)\)", line)
        if found is None:
            raise UserError(f"{path}, line {number} does not end with an id, expected 'words (id)'; correct it")
        _add(texts, found[2], found[1], f"{path}, line {number}")
    return texts


def read_kaldi_text(path: Path) -> Texts:
    """The texts of Kaldi's ``text``.

    Raises:
        UserError: an id occurs twice.
    """
    texts: Texts = {}
    for number, line in numbered(path):
        name, *rest = line.split(maxsplit=1)
        _add(texts, name, rest[0] if rest else "", f"{path}, line {number}")
    return texts


def _add(texts: Texts, name: str, text: str, where: str) -> None:
    if name in texts:
        raise UserError(f"{where} has the id '{name}' of an earlier line, expected each id once; rename one")
    texts[name] = " ".join(text.split())


def trn_id(record: UtteranceRecord) -> str:
    """``speaker-id``, which sclite reads with ``-i spu_id``; the id where the speaker is not known, or begins it already.

    Raises:
        UserError: the id holds what these formats cannot.
    """
    name, speaker = record.id, record.speaker
    if speaker and not re.match(re.escape(speaker) + r"[-_]", name):
        name = f"{speaker}-{name}"
    if re.search(r"[\s()]", name):
        raise UserError(f"the id '{name}' holds a space or a bracket, expected neither in trn; rename the utterance")
    return name


def trn(names: Sequence[str], texts: Sequence[str]) -> str:
    """The content of a ``trn`` file."""
    return "".join(f"{text} ({name})\n".lstrip() for name, text in zip(names, texts, strict=True))


def kaldi_text(names: Sequence[str], texts: Sequence[str]) -> str:
    """The content of Kaldi's ``text``, sorted by id as Kaldi wants it.

    Raises:
        UserError: an id holds a space.
    """
    if wrong := next((name for name in names if re.search(r"\s", name)), None):
        raise UserError(f"the id '{wrong}' holds a space, expected none in Kaldi's text; rename the utterance")
    return "".join(sorted(f"{name} {text}".rstrip() + "\n" for name, text in zip(names, texts, strict=True)))
