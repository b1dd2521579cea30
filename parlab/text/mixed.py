"""Token lists that hold Chinese characters beside sentencepiece's pieces of other words, as WeNet's and FireRed's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parlab.errors import UserError
from parlab.text.tokenizer import Tokenizer

_CHARACTER = re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff])")


class MixedTokenizer(Tokenizer):
    """Each Chinese character is a token; what stands between them is cut by sentencepiece, in upper case.

    Args:
        token_list: all tokens; the index is the id.
        model_bytes: the sentencepiece model; without one ids can be decoded, but no text encoded.

    Raises:
        UserError: the list is empty, or the bytes are no sentencepiece model.
    """

    def __init__(self, token_list: Sequence[str], model_bytes: bytes | None = None):
        super().__init__(token_list, "char")
        self.token_type, self._whole = "bpe", None
        self.model_bytes, self.model_file = model_bytes, None
        self._processor = self._load() if model_bytes is not None else None

    model_file: Path | None

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._processor = self._load() if self.model_bytes is not None else None

    def pieces(self, text: str) -> list[str]:
        """Cut ``text`` into tokens, known or not.

        Raises:
            UserError: there is no sentencepiece model.
        """
        if self._processor is None:
            raise UserError(
                "the model's folder has no sentencepiece model, expected one to cut a text into tokens; put it there"
            )
        found: list[str] = []
        for i, part in enumerate(_CHARACTER.split(text.upper())):
            if part.strip():
                found += [part] if i % 2 else self._processor.encode(part.strip(), out_type=str)
        return found
