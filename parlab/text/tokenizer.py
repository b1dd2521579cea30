"""Text to token ids and back, with ESPnet's four token types: bpe, char, word, phn."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parlab.errors import UserError, nearest
from parlab.text.pieces import check_pieces

TOKEN_TYPES = ("bpe", "char", "word", "phn")
BLANK, UNK, SPACE, SOS_EOS = "<blank>", "<unk>", "<space>", "<sos/eos>"
_SYMBOL = re.compile(r"<[^<>\s]+>")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# No text may ask for these, whatever it says: a blank among CTC's labels has no meaning.
_CONTROL = frozenset({BLANK, UNK, SPACE, SOS_EOS, "<s>", "</s>", "<sos>", "<eos>", "<pad>", "<mask>"})


def is_symbol(token: str) -> bool:
    """Whether a token list writes a token as a symbol, ``<...>``; ``<space>``, ``<unk>`` and bytes (``<0xC3>``) are written so too."""
    return len(token) > 2 and token.startswith("<") and token.endswith(">")


class Tokenizer:
    """A token list with the rule that cuts text into its entries.

    In a ``char`` list, entries of several characters (``<noise>``, ``[laughter]``) are symbols, kept whole.

    Args:
        token_list: all tokens; the index is the id.
        token_type: ``bpe`` (sentencepiece), ``char``, ``word`` or ``phn`` (phonemes separated by spaces).
        model_file: the sentencepiece model of ``bpe``.
        model_bytes: the same as bytes, where there is no file (a checkpoint).

    Raises:
        UserError: an unknown type, an empty list, or a sentencepiece model that is missing, unreadable or another list's.
    """

    def __init__(
        self,
        token_list: Sequence[str],
        token_type: str = "bpe",
        model_file: str | Path | None = None,
        model_bytes: bytes | None = None,
    ):
        if token_type not in TOKEN_TYPES:
            raise UserError(
                f"the token type is '{token_type}', expected one of {', '.join(TOKEN_TYPES)}"
                f"{nearest(token_type, TOKEN_TYPES)}"
            )
        if not token_list:
            raise UserError(
                "the token list is empty, expected the tokens that the model was trained with; copy it again"
            )
        self.token_list = list(token_list)
        self.token_type = token_type
        self.model_file = Path(model_file) if model_file is not None else None
        self.index = {token: i for i, token in reversed(list(enumerate(self.token_list)))}
        self.unk = self.index.get(UNK)
        self.model_bytes = model_bytes
        whole = [t for t in self.token_list if len(t) > 1 and t not in _CONTROL] if token_type == "char" else []
        # The capturing group makes `split` give the symbols too.
        self._whole = (
            re.compile(f"({'|'.join(map(re.escape, sorted(whole, key=len, reverse=True)))})") if whole else None
        )
        self._processor: Any = None
        if token_type == "bpe":
            self._processor = self._load()
            own = [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]
            check_pieces(self.token_list, own, str(self.model_file or "the checkpoint's sentencepiece model"))

    def _load(self) -> Any:
        import sentencepiece

        if self.model_bytes is None:
            if self.model_file is None:
                raise UserError(
                    "the token type is bpe but no sentencepiece model is named; set bpemodel in config.yaml"
                )
            try:
                self.model_bytes = self.model_file.read_bytes()
            except OSError as error:
                raise UserError(f"the sentencepiece model {self.model_file} cannot be read; put it there") from error
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=self.model_bytes)
        except Exception as error:
            raise UserError(
                f"{self.model_file or 'what the checkpoint holds'} is no sentencepiece model; copy it again"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_processor": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.token_type == "bpe":
            self._processor = self._load()

    def pieces(self, text: str) -> list[str]:
        """Cut ``text`` into tokens, known or not."""
        if self.token_type == "bpe":
            return self._processor.encode(text, out_type=str)
        if self.token_type == "char":
            parts = self._whole.split(text) if self._whole else [text]
            pieces: list[str] = []
            for i, part in enumerate(parts):
                pieces += [part] if i % 2 else [SPACE if c == " " else c for c in part]
            return pieces
        return text.split()

    def _id(self, piece: str) -> int | None:
        if piece in _CONTROL and not (piece == SPACE and self.token_type == "char"):
            return self.unk
        return self.index.get(piece, self.unk)

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; pieces that the token list lacks become ``<unk>``.

        Raises:
            UserError: a piece is unknown and the token list has no ``<unk>``.
        """
        ids = [self._id(piece) for piece in self.pieces(text)]
        if any(i is None for i in ids):
            raise UserError(f"the token list cannot spell {text!r} and has no <unk>; use a tokenizer of this language")
        return [i for i in ids if i is not None]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; symbols in angle brackets (``<blank>``, ``<sos/eos>``, ``<noise>``) are left out, ``<unk>`` stays."""
        tokens = [self.token_list[i] for i in ids]
        if self.token_type == "bpe":
            tokens = _merge_bytes(tokens)
        tokens = [t for t in tokens if t in (UNK, SPACE) or not _SYMBOL.fullmatch(t)]
        if self.token_type == "bpe":
            return "".join(tokens).replace("\u2581", " ").strip()
        if self.token_type == "char":
            return "".join(" " if t == SPACE else t for t in tokens).strip()
        return " ".join(tokens)

    def unspellable(self, text: str) -> set[str]:
        """Pieces of ``text`` that only ``<unk>`` can stand for."""
        return {piece for piece in self.pieces(text) if self._id(piece) in (None, self.unk)}


def _merge_bytes(tokens: Iterable[str]) -> list[str]:
    """Replace each run of sentencepiece's byte tokens (``<0xC3>``) by the characters they spell."""
    merged: list[str] = []
    run = bytearray()
    for token in [*tokens, ""]:
        if byte := _BYTE.fullmatch(token):
            run.append(int(byte[1], 16))
            continue
        if run:
            merged.append(run.decode("utf-8", errors="replace"))
            run.clear()
        merged.append(token)
    return merged


def build_tokenizer(
    texts: Iterable[str], token_type: str, directory: str | Path, vocab_size: int = 200, symbols: Sequence[str] = ()
) -> Tokenizer:
    """Make a tokenizer from training texts and write it in ESPnet's layout (``tokens.txt``, ``bpe.model``).

    Args:
        vocab_size: for ``bpe`` only; counts the special tokens.
        symbols: kept whole, such as ``<noise>``.

    Raises:
        UserError: there is no text, or it cannot be cut into ``vocab_size`` pieces.
    """
    folder = Path(directory)
    if token_type == "bpe":
        return train_bpe(texts, vocab_size, folder, symbols)
    lines = _with_content(texts)
    cut = Tokenizer([UNK, *symbols], token_type)
    counts = Counter(piece for line in lines for piece in cut.pieces(line))
    first = [BLANK, UNK, *dict.fromkeys(symbols)]
    known = {*first, *(_CONTROL - {SPACE} if token_type == "char" else _CONTROL)}
    tokens = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if token not in known]
    return _write(Tokenizer([*first, *tokens, SOS_EOS], token_type), folder)


def train_bpe(texts: Iterable[str], vocab_size: int, directory: str | Path, symbols: Sequence[str] = ()) -> Tokenizer:
    """Train a unigram sentencepiece model as ESPnet's recipes do; writes ``tokens.txt`` and ``bpe.model``.

    Args:
        vocab_size: length of the token list, ``<blank>``, ``<unk>`` and ``<sos/eos>`` counted.
        symbols: kept whole, such as ``<noise>``.

    Raises:
        UserError: there is no text, or it cannot be cut into ``vocab_size`` pieces.
    """
    import sentencepiece

    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    lines = _with_content(texts)
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,  # a path would be told to whoever gets the model
            vocab_size=vocab_size,  # its <unk>, <s>, </s> against our <blank>, <unk>, <sos/eos>
            model_type="unigram",
            character_coverage=1.0,
            user_defined_symbols=list(symbols),
            num_threads=1,  # more threads give another model on every run
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"sentencepiece cannot make {vocab_size} tokens of {len(lines)} sentences "
            f"({(str(error).splitlines() or ['no reason given'])[0][-160:]}); choose another vocab_size"
        ) from error
    model = folder / "bpe.model"
    model.write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    own = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    tokens = [BLANK, UNK, *(p for p in own if p not in {"<unk>", "<s>", "</s>"}), SOS_EOS]
    return _write(Tokenizer(tokens, "bpe", model), folder)


def _with_content(texts: Iterable[str]) -> list[str]:
    lines = [line for line in texts if line.strip()]
    if not lines:
        raise UserError("there is no text to make a tokenizer from; give references to the training data")
    return lines


def _write(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.txt").write_text("\n".join(tokenizer.token_list) + "\n", encoding="utf-8")
    return tokenizer
