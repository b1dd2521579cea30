"""``ngrams``: an ARPA file over a model's tokens, for the option ``lm`` of decoders, or over a draft head's, for PAR's drafts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from parlab.errors import UserError
from parlab.options.parser import Parser
from parlab.predictions.files import writing
from parlab.recognition.recognizer import Recognizer
from parlab.text.ngrams import Counts


@dataclass(frozen=True)
class NgramOptions:
    """What is counted.

    Attributes:
        model: the model whose tokens they are; a folder, checkpoint or hub id
        head: a draft head of it, whose tokens they are then
        texts: a file or a list of them: JSONL with a text in each line (a manifest, hypotheses.jsonl), or a text a line, as the model writes it
        order: tokens of the longest n-grams
        out: the ARPA file; packed where its name ends in .gz
    """

    model: str = ""
    head: str | None = None
    texts: str | list[str] = field(default_factory=list)
    order: int = 4
    out: str = ""


def main(argv: Sequence[str]) -> int:
    """Run ``ngrams``.

    Raises:
        UserError: something is not given or cannot be read, or the texts hold no token.
    """
    parser = Parser.of("ngrams", "Count n-grams of texts in a model's tokens (Witten-Bell); write an ARPA file.")
    parser.add_class_arguments(NgramOptions)
    given = parser.read(argv)
    files = [given.texts] if isinstance(given.texts, str) else list(given.texts)
    options = NgramOptions(given.model, given.head, files, given.order, given.out)
    for name, value in (("model", options.model), ("texts", files), ("out", options.out)):
        if not value:
            raise UserError(f"ngrams got no --{name}, expected --model M --texts FILE --out FILE; add it")
    if options.order < 1:
        raise UserError(f"the order is {options.order}, expected a number of tokens from 1; correct it")
    texts = [text for file in files for text in read_texts(Path(file).expanduser())]
    asr = Recognizer.read(options.model, torch.device("cpu"), head=options.head)
    tokenizer = asr.tokenizer if asr.head is None else asr.head.tokenizer
    known = set(tokenizer.token_list)
    cut = [[piece for piece in tokenizer.pieces(text) if piece in known] for text in texts]
    if not any(cut):
        raise UserError(
            f"{', '.join(files)} hold no token of the model, expected texts as it writes them; correct them"
        )
    content = "\n".join(Counts(filter(None, cut), options.order).arpa()) + "\n"
    _write(Path(options.out).expanduser(), content)
    print(f"wrote {options.out}: {options.order}-grams of {len(texts)} texts, {sum(map(len, cut))} tokens")
    return 0


def read_texts(path: Path) -> list[str]:
    """The texts of a file; those of JSONL stand under ``text``.

    Raises:
        UserError: it cannot be read, or a line of JSONL has no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the texts {path} cannot be read ({error}), expected JSONL or a text a line") from error
    texts = []
    for number, line in enumerate(filter(str.strip, lines), 1):
        if not line.startswith("{"):
            texts.append(line.strip())
            continue
        try:
            text = json.loads(line)["text"]
        except (ValueError, KeyError):
            text = None
        if not isinstance(text, str):
            raise UserError(f"{path}, line {number} has no text, expected JSON with one under 'text'; correct it")
        texts.append(text.strip())
    return texts


def _write(path: Path, content: str) -> None:
    data = content.encode()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
