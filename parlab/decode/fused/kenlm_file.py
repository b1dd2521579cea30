"""N-grams of KenLM's binary files over the decoder's tokens, by the package ``kenlm``, which scores a token at a time, on the host."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from parlab.decode.fused.automaton import ROOT, Automaton
from parlab.errors import UserError
from parlab.transfer import to_host

_MAGIC = b"mmap lm"
# Before the numbers of n-grams lie the magic bytes (56), test values (32) and parameters (20): KenLM's lm/binary_format.cc, version 5.
_COUNTS = struct.Struct("<108xQ")
_MOST_SCORES = 2**20  # kept at a time; about 200 MB


def is_binary(path: str) -> bool:
    """Whether a file begins as KenLM's binary files do; one that cannot be read does not."""
    try:
        with open(Path(path).expanduser(), "rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def read_binary(path: str) -> tuple[Any, int]:
    """The ``kenlm.Model`` of a binary file of any of KenLM's data structures, and the number of its unigrams.

    Raises:
        UserError: the package is not installed, or cannot read the file.
    """
    try:
        import kenlm
    except ImportError as error:
        raise UserError(
            f"{path} is a binary file of KenLM, which needs the package kenlm; run `pip install 'parlab[kenlm]'`, or name the ARPA file "
            "that it was made from"
        ) from error
    file = Path(path).expanduser()
    try:
        with open(file, "rb") as head:
            (unigrams,) = _COUNTS.unpack(head.read(_COUNTS.size))
        return kenlm.Model(str(file)), unigrams
    except (OSError, struct.error) as error:
        raise UserError(
            f"the package kenlm cannot read {path}, expected a whole file of KenLM's build_binary, of an order that the package was built "
            "for; make it again, or name the ARPA file that it was made from"
        ) from error


class KenlmNgrams(Automaton):
    """Backoff n-grams of a ``kenlm.Model``. States are numbers of a table that grows with the texts that are met, up to the contexts
    that the model has.

    Args:
        model: the ``kenlm.Model``.
        words: the V words that tokens stand for.
        device: of the tensors that come and go; the model stays on the host, which waits for them.
    """

    on_host = True

    def __init__(self, model: Any, words: Sequence[str], device: torch.device):
        from kenlm import State

        self.memory, self.device = model.order - 1, device
        self._model, self._words, self._new = model, words, State
        none, begin = State(), State()
        model.NullContextWrite(none)
        model.BeginSentenceWrite(begin)
        self._states = [none]  # ROOT is the state of no context
        self._numbers = {none: ROOT}
        self._scores: dict[tuple[int, int], tuple[float, int]] = {}
        self._lock = Lock()
        self.begin = self._number(begin)

    def gains(self, state: Tensor, tokens: Tensor) -> Tensor:
        found = [score for score, _ in self._look_up(state, tokens)]
        return torch.tensor(found, dtype=torch.float32).view(tokens.shape).to(self.device)

    def step(self, state: Tensor, tokens: Tensor) -> Tensor:
        following = [after for _, after in self._look_up(state, tokens.unsqueeze(1))]
        return torch.tensor(following, dtype=torch.long).to(self.device)

    def _look_up(self, state: Tensor, tokens: Tensor) -> list[tuple[float, int]]:
        """Log-probabilities of ``tokens`` (N, C) after ``state`` (N,), and the states after them, row by row."""
        rows = zip(*(x.tolist() for x in to_host(state, tokens)), strict=True)
        return [self._scores.get((node, token)) or self._ask(node, token) for node, row in rows for token in row]

    def _ask(self, node: int, token: int) -> tuple[float, int]:
        """What the model says of one token, which is kept."""
        after = self._new()
        score = self._model.BaseScore(self._states[node], self._words[token], after) * math.log(10)
        with self._lock:
            if len(self._scores) >= _MOST_SCORES:
                self._scores.clear()
            found = self._scores[node, token] = score, self._number(after)
        return found

    def _number(self, state: Any) -> int:
        number = self._numbers.setdefault(state, len(self._states))
        if number == len(self._states):
            self._states.append(state)
        return number
