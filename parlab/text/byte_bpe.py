"""Byte-level BPE (GPT-2's, and so Whisper's): tokens are runs of bytes, read from a ``tokenizer.json``.

The token list shows them as sentencepiece's pieces are shown: U+2581 for a leading blank, and ``<0xC3>`` for bytes that are no
character of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from parlab.errors import UserError
from parlab.text.tokenizer import Tokenizer

_SPECIAL = re.compile(r"<\|.*\|>")


class ByteBPE(Tokenizer):
    """A tokenizer over bytes, which can spell any text.

    Args:
        spec: a ``tokenizer.json`` as bytes.
        size: length of the token list; ids beyond those of ``spec`` are ``later``, then ``<|unused|>``.
        later: symbols that the model knows and ``spec`` does not name (Whisper's times).

    Raises:
        UserError: ``spec`` is none or has more tokens, or the package tokenizers is missing.
    """

    def __init__(self, spec: bytes, size: int, later: Sequence[str] = ()):
        self.model_bytes: bytes | None = spec
        self._bpe = _read(spec)
        known = self._bpe.get_vocab_size()
        if known > size:
            raise UserError(f"the tokenizer has {known} tokens, but the model {size}; take both from the same model")
        self.raw = [self._bpe.id_to_token(i) or "<|unused|>" for i in range(known)]
        self.raw += [*later, *["<|unused|>"] * size][: size - known]
        self.special = {i for i, token in enumerate(self.raw) if _SPECIAL.fullmatch(token)}
        self.special |= set(self._bpe.get_added_tokens_decoder())
        self.token_list = [t if i in self.special else _shown(_bytes(t)) for i, t in enumerate(self.raw)]
        self.token_type, self.unk = "bpe", None
        self.model_file: Path | None = None

    @cached_property
    def index(self) -> dict[str, int]:  # type: ignore[override]
        """Id of each symbol, by its name."""
        return {self.raw[i]: i for i in sorted(self.special, reverse=True)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_bpe": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bpe = _read(self.model_bytes or b"")

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, whose first word begins with a blank as every other one does."""
        return self.ids_of(f" {text.strip()}")

    def ids_of(self, text: str) -> list[int]:
        """Ids of ``text`` as it is, blanks included."""
        return self._bpe.encode(text, add_special_tokens=False).ids

    def pieces(self, text: str) -> list[str]:
        """The tokens of ``text``, as the token list shows them."""
        return [self.token_list[i] for i in self.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; symbols such as ``<|en|>`` and ``<|0.00|>`` are left out, broken characters are U+FFFD."""
        return b"".join(_bytes(self.raw[i]) for i in ids if i not in self.special).decode("utf-8", "replace").strip()

    def unspellable(self, text: str) -> set[str]:
        """Nothing: bytes spell every text."""
        return set()


def _read(spec: bytes) -> Any:
    try:
        from tokenizers import Tokenizer as Fast
    except ImportError as error:
        raise UserError(
            "this model needs the package tokenizers, which is not installed; run `pip install 'parlab[whisper]'`"
        ) from error
    try:
        return Fast.from_str(spec.decode("utf-8"))
    except Exception as error:  # tokenizers raises plain Exceptions
        raise UserError(f"the tokenizer cannot be read ({str(error)[:120]}); copy tokenizer.json again") from error


def _alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: printable ones stand for themselves, the others for those from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTE_OF = _alphabet()


def _bytes(token: str) -> bytes:
    return b"".join(bytes([_BYTE_OF[c]]) if c in _BYTE_OF else c.encode() for c in token)


def _shown(spelled: bytes) -> str:
    """A token as it is shown; never one that looks like a symbol."""
    try:
        return spelled.decode("utf-8").replace(" ", "\u2581")
    except UnicodeDecodeError:
        return "".join(chr(b) if b < 128 else f"<0x{b:02X}>" for b in spelled).replace(" ", "\u2581")
