"""N-grams of an ARPA file over the decoder's tokens, as tables: contexts are states, look-ups are binary searches."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from parlab.decode.fused.automaton import ROOT, Automaton, file_stamp
from parlab.decode.fused.kenlm_file import KenlmNgrams, is_binary, read_binary
from parlab.errors import UserError
from parlab.transfer import to_device

NO_UNKNOWN = -100.0  # log10 of a token that the file lacks, where it has no <unk>, as in KenLM
_SECTION = re.compile(r"\\(\d+)-grams:")

Gram = tuple[int, ...]


class Ngrams(Automaton):
    """Backoff n-grams; a state is the longest end of the text that the file has.

    Args:
        grams: log-probabilities and backoff weights (natural logarithms) of n-grams of words from 0; all unigrams that tokens stand
            for, and the beginning of each n-gram, are there.
        words: (V,) the word that each token stands for; ``size`` is the number of words.
        start: the word before the first token.

    Attributes:
        device: of the tables.
    """

    def __init__(
        self, grams: dict[Gram, tuple[float, float]], words: Tensor, size: int, start: int, device: torch.device
    ):
        # Nodes are numbered by length, then by the number of their beginning, then by their last word: so are their keys sorted.
        number: dict[Gram, int] = {(): ROOT}
        keys: list[int] = []
        self.memory = max(len(gram) for gram in grams) - 1
        for length in range(1, self.memory + 2):
            level = sorted((number[gram[:-1]], gram[-1], gram) for gram in grams if len(gram) == length)
            for parent, word, gram in level:
                number[gram] = len(number)
                keys.append(parent * size + word)
        suffix = [
            next(number[gram[i:]] for i in range(min(len(gram), 1), len(gram) + 1) if gram[i:] in number)
            for gram in number
        ]
        values = [(0.0, 0.0), *(grams[gram] for gram in number if gram)]
        table = torch.tensor(values, dtype=torch.float64).float()
        self._size, self.device = size, device
        self._words, self._keys, self._suffix = to_device(device, words, torch.tensor(keys), torch.tensor(suffix))
        self._score, self._backoff = to_device(device, *table.unbind(1))
        self.begin = number.get((start,), ROOT)

    def gains(self, state: Tensor, tokens: Tensor) -> Tensor:
        return self._look_up(state, tokens)[0]

    def step(self, state: Tensor, tokens: Tensor) -> Tensor:
        return self._look_up(state, tokens.unsqueeze(1))[1].squeeze(1)

    def _look_up(self, state: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of ``tokens`` (N, C) after ``state`` (N,), and the states after them, both (N, C)."""
        word = self._words[tokens]
        node = state.unsqueeze(1).expand_as(word)
        score = torch.zeros(word.shape, device=word.device)
        following, done = torch.zeros_like(word), torch.zeros_like(word, dtype=torch.bool)
        for _ in range(self.memory + 2):  # from the longest context to none
            key = node * self._size + word
            index = torch.searchsorted(self._keys, key).clamp(max=len(self._keys) - 1)
            hit = (self._keys[index] == key) & ~done
            score = score + torch.where(hit, self._score[index + 1], self._backoff[node].masked_fill(done | hit, 0.0))
            following = torch.where(hit, index + 1, following)
            done = done | hit
            node = self._suffix[node]
        return score, following


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file, packed by gzip or not, with their numbers."""
    file = Path(path).expanduser()
    try:
        with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else open(file, encoding="utf-8") as lines:
            yield from enumerate(lines, 1)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UserError(
            f"the n-grams {path} cannot be read ({reason}), expected an ARPA file as text, or a binary file of KenLM; name one"
        ) from error


def _refusal(path: str, number: int, line: str) -> UserError:
    return UserError(
        f"{path}, line {number}: got {line.strip()[:60]!r}, expected an ARPA file (log10, tokens, backoff); write it again"
    )


def read_arpa(path: str, index: dict[str, int]) -> tuple[dict[Gram, tuple[float, float]], int]:
    """The n-grams of an ARPA file whose words are all in ``index``, in natural logarithms; and the number of its unigrams.

    Raises:
        UserError: it is no ARPA file, or lacks the beginning of one of its n-grams.
    """
    found: dict[Gram, tuple[float, float]] = {}
    order = unigrams = 0
    for number, line in _lines(path):
        text = line.strip(" \t\r\n")
        if section := _SECTION.fullmatch(text):
            order = int(section[1])
        elif text == "\\end\\":
            break
        elif text and order:
            parts = re.split(r"[ \t]+", text)
            try:
                score, backoff = float(parts[0]), float(parts[order + 1]) if len(parts) > order + 1 else 0.0
            except ValueError:
                score = backoff = math.nan
            if len(parts) not in (order + 1, order + 2) or math.isnan(score) or math.isnan(backoff):
                raise _refusal(path, number, line)
            unigrams += order == 1
            gram = tuple(index[word] for word in parts[1 : order + 1] if word in index)
            if len(gram) == order:
                if order > 1 and gram[:-1] not in found:
                    raise _refusal(path, number, line)
                found[gram] = (max(score, NO_UNKNOWN) * math.log(10), backoff * math.log(10))
        elif text and number == 1 and text != "\\data\\":
            raise _refusal(path, number, line)
    if not found:
        raise UserError(
            f"{path} holds no n-gram of the model's tokens, expected an ARPA file over them; cut its texts into tokens"
        )
    return found, unigrams


def _check_words(path: str, known: int, unigrams: int) -> None:
    if 2 * known < unigrams:
        raise UserError(
            f"{path} has {unigrams} words, {known} of them tokens of the model, expected n-grams over the model's tokens; cut the "
            "texts into tokens before they are counted"
        )


@lru_cache(maxsize=4)
def _arpa(path: str, stamp: tuple[int, int], tokens: tuple[str, ...], eos: int, device: torch.device) -> Ngrams:
    start, unknown = len(tokens), len(tokens) + 1
    index = {token: i for i, token in reversed(list(enumerate(tokens)))}
    index |= {"<s>": start, "</s>": eos, "<unk>": unknown, "<UNK>": unknown}
    grams, unigrams = read_arpa(path, index)
    known = {gram[0] for gram in grams if len(gram) == 1}
    _check_words(path, len(known), unigrams)
    grams.setdefault((unknown,), (NO_UNKNOWN * math.log(10), 0.0))
    words = torch.tensor([i if i in known else unknown for i in range(len(tokens))])
    return Ngrams(grams, words, len(tokens) + 2, start, device)


@lru_cache(maxsize=4)
def _binary(path: str, stamp: tuple[int, int], tokens: tuple[str, ...], eos: int, device: torch.device) -> KenlmNgrams:
    model, unigrams = read_binary(path)
    words = words_of(tokens, eos)
    _check_words(path, sum(word in model for word in {*words, "<s>"}) + 1, unigrams)  # its <unk> is none that it knows
    return KenlmNgrams(model, words, device)


def words_of(tokens: Sequence[str], eos: int) -> list[str]:
    """The word that each token stands for: ``</s>`` for ``eos``, itself, or ``<unk>`` where it is a symbol or a second one."""
    taken = {"<s>", "</s>", "<unk>", "<UNK>"}
    words = []
    for i, token in enumerate(tokens):
        words.append("</s>" if i == eos else "<unk>" if token in taken else token)
        taken.add(token)
    return words


def ngram_automaton(path: str, tokens: Sequence[str], eos: int, device: torch.device) -> Automaton:
    """The n-grams of an ARPA file or of a binary file of KenLM, made once while the file stays as it is.

    Args:
        tokens: the V tokens of the model; ``eos`` stands for ``</s>``.

    Raises:
        UserError: it is no file of n-grams over the model's tokens.
    """
    made = _binary if is_binary(path) else _arpa
    return made(path, file_stamp(path), tuple(tokens), eos, device)
