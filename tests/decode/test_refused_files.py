"""Files of phrases and of n-grams that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from parlab.decode import AR, PAR
from parlab.errors import UserError
from tests.decode.test_phrases import batch

PHRASES = [
    ("", "holds no phrase"),
    ("\n \n", "holds no phrase"),
    ("ab\thigh\n", "line 1: got 'ab\\\\thigh', expected a phrase, or a phrase, a tab and a number"),
    ("a\nb\tnan\n", "line 2"),
    ("\t2\n", "line 1"),
    ("AB\n", "cannot spell the phrase 'AB'"),
    (b"\xff\xfe", "no UTF-8"),
]
NGRAMS = [
    ("", "holds no n-gram"),
    ("hello\n", "line 1"),
    ("\\data\\\n\n\\1-grams:\nx\ta\n\\end\\\n", "line 4"),
    ("\\data\\\n\n\\1-grams:\n-1\ta b c\n\\end\\\n", "line 4"),
    ("\\data\\\n\n\\1-grams:\n-1\ta\n\\2-grams:\n-1\tb a\n\\end\\\n", "line 6"),
    ("\\data\\\n\n\\1-grams:\n-1\ta\n-1\tTHE\n-1\tCAT\n\\end\\\n", "3 words, 1 of them tokens"),
    (b"mmap lm\x00\xff\xfe", "KenLM"),
]


@pytest.mark.parametrize(
    ("option", "content", "message"), [*(("phrases", *case) for case in PHRASES), *(("lm", *case) for case in NGRAMS)]
)
def test_files_that_are_refused(option: str, content: str | bytes, message: str, tmp_path: Path) -> None:
    """By the first batch at the latest, and before it where the file's form alone is wrong."""
    file = tmp_path / "file.arpa"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    model, given = batch(0)
    with pytest.raises(UserError, match=message):
        PAR(**{option: str(file)}).decode(model, given)
    if "spell" not in message:
        with pytest.raises(UserError, match=message):
            AR(**{option: str(file)}).prepare(model, torch.device("cpu"))
