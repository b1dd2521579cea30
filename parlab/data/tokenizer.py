"""Text to token ids and back, with ESPnet's four token types: bpe, char, word, phn."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from parlab.errors import UserError, nearest

TOKEN_TYPES = ("bpe", "char", "word", "phn")
BLANK, UNK, SPACE, SOS_EOS = "<blank>", "<unk>", "<space>", "<sos/eos>"
_SYMBOL = re.compile(r"<[^<>\s]+>")


class Tokenizer:
    """A token list with the rule that cuts text into its entries.

    Args:
        token_list: all tokens; the index is the id.
        token_type: ``bpe`` (sentencepiece), ``char``, ``word`` or ``phn`` (phonemes separated by spaces).
        model_file: the sentencepiece model of ``bpe``.
        model_bytes: the same as bytes, where there is no file (a checkpoint).

    Raises:
        UserError: an unknown type, or a missing or unreadable sentencepiece model.
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
        self.token_list = list(token_list)
        self.token_type = token_type
        self.model_file = Path(model_file) if model_file is not None else None
        self.index = {token: i for i, token in reversed(list(enumerate(self.token_list)))}
        self.unk = self.index.get(UNK)
        self.model_bytes = model_bytes
        self._processor: Any = None
        if token_type == "bpe":
            self._processor = self._load()

    def _load(self) -> Any:
        import sentencepiece

        if self.model_bytes is None:
            if self.model_file is None:
                raise UserError("the token type is bpe but no sentencepiece model is named; set bpemodel in config.yaml")
            try:
                self.model_bytes = self.model_file.read_bytes()
            except OSError as error:
                raise UserError(f"the sentencepiece model {self.model_file} cannot be read; put it there") from error
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=self.model_bytes)
        except Exception as error:
            raise UserError(f"{self.model_file} is no sentencepiece model; copy it again") from error

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
            return [SPACE if c == " " else c for c in text]
        return text.split()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; what the token list lacks becomes ``<unk>``.

        Raises:
            UserError: a piece is unknown and the token list has no ``<unk>``.
        """
        ids = [self.index.get(piece, self.unk) for piece in self.pieces(text)]
        if any(i is None for i in ids):
            raise UserError(f"the token list cannot spell {text!r} and has no <unk>; use a tokenizer of this language")
        return [i for i in ids if i is not None]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids``; symbols such as ``<blank>`` or ``<sos/eos>`` are left out, ``<unk>`` stays."""
        tokens = [self.token_list[i] for i in ids]
        tokens = [t for t in tokens if t in (UNK, SPACE) or not _SYMBOL.fullmatch(t)]
        if self.token_type == "bpe":
            return "".join(tokens).replace("\u2581", " ").strip()
        if self.token_type == "char":
            return "".join(" " if t == SPACE else t for t in tokens).strip()
        return " ".join(tokens)

    def unspellable(self, text: str) -> set[str]:
        """Pieces of ``text`` that only ``<unk>`` can stand for."""
        return {piece for piece in self.pieces(text) if piece not in self.index}


def build_tokenizer(
    texts: Iterable[str], token_type: str, directory: str | Path, vocab_size: int = 200, symbols: Sequence[str] = ()
) -> Tokenizer:
    """Make a tokenizer from training texts and write it in ESPnet's layout (``tokens.txt``, ``bpe.model``).

    ``vocab_size`` is for ``bpe`` only and counts the special tokens; ``symbols`` are kept whole.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [line for line in texts if line.strip()]
    if not lines:
        raise UserError("there is no text to make a tokenizer from; give references to the training data")
    if token_type == "bpe":
        tokenizer = train_bpe(lines, vocab_size, folder, symbols)
    else:
        cut = Tokenizer([UNK], token_type)
        counts = Counter(piece for line in lines for piece in cut.pieces(line))
        tokens = [token for token, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        tokenizer = Tokenizer([BLANK, UNK, *symbols, *tokens, SOS_EOS], token_type)
    (folder / "tokens.txt").write_text("\n".join(tokenizer.token_list) + "\n", encoding="utf-8")
    return tokenizer


def train_bpe(texts: Sequence[str], vocab_size: int, directory: Path, symbols: Sequence[str] = ()) -> Tokenizer:
    """Train a unigram sentencepiece model as ESPnet's recipes do.

    Raises:
        UserError: the texts are too small for so large a vocabulary.
    """
    import sentencepiece

    prefix = directory / "bpe"
    pieces = vocab_size  # its <unk>, <s>, </s> against our <blank>, <unk>, <sos/eos>
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_prefix=str(prefix),
            vocab_size=pieces,
            model_type="unigram",
            character_coverage=1.0,
            user_defined_symbols=list(symbols),
            num_threads=1,  # more threads give another model on every run
            minloglevel=2,
        )
    except RuntimeError as error:
        raise UserError(
            f"sentencepiece cannot make {vocab_size} tokens of {len(texts)} sentences "
            f"({str(error).splitlines()[0][-160:]}); choose another vocab_size"
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")
    own = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    tokens = [BLANK, UNK, *(p for p in own if p not in {"<unk>", "<s>", "</s>"}), SOS_EOS]
    return Tokenizer(tokens, "bpe", Path(f"{prefix}.model"))
