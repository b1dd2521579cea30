"""Phrases that are boosted: the automaton of Aho and Corasick (1975) over tokens, as tables.

A text's score is the sum of the weights of all phrases in it, each as often as it occurs, also within another one. So that a
search finds a phrase, its weight is paid token by token; what was paid for a phrase that then breaks off is taken back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from parlab.decode.fused.automaton import ROOT, Automaton, file_stamp
from parlab.errors import UserError
from parlab.text.tokenizer import SPACE, Tokenizer
from parlab.transfer import to_device

MOST_CELLS = 2**27  # of the table, 4 bytes each

Phrase = tuple[int, ...]


def read_phrases(path: str) -> dict[str, float]:
    """The phrases of a text file with their weights: a phrase a line, which a tab and a weight may follow (1 without).

    A phrase that is listed again has its last weight.

    Raises:
        UserError: the file cannot be read, holds no phrase, or a weight is no number.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(
            f"the phrases {path} cannot be read ({reason}), expected a phrase a line; name another file"
        ) from error
    found: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        text, _, weight = line.rstrip("\r").partition("\t")
        text = " ".join(text.split())
        try:
            value = float(weight) if weight.strip() else 1.0
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (weight.strip() and not text):
            raise UserError(
                f"{path}, line {number}: got {line.strip()[:60]!r}, expected a phrase, or a phrase, a tab and a number; correct it"
            )
        if text:
            found[text] = value
    if not found:
        raise UserError(f"{path} holds no phrase, expected a phrase a line; add some, or leave phrases out")
    return found


def spell_phrases(phrases: Mapping[str, float], tokenizer: Tokenizer) -> dict[Phrase, float]:
    """The phrases in a tokenizer's tokens; where words are cut by ``<space>``, each begins with one.

    Raises:
        UserError: the tokens cannot spell a phrase.
    """
    begin = _begin(tokenizer)
    found: dict[Phrase, float] = {}
    for text, weight in phrases.items():
        if tokenizer.unspellable(text):
            raise UserError(
                f"the model's tokens cannot spell the phrase {text!r}, expected the model's way of writing (capital or small "
                "letters, for one); write it so, or take it out"
            )
        found[begin + tuple(tokenizer.encode(text))] = weight
    return found


def _begin(tokenizer: Tokenizer) -> Phrase:
    """The tokens with which every phrase begins: ``<space>``, where it cuts words."""
    space = tokenizer.index.get(SPACE) if tokenizer.token_type == "char" else None
    return () if space is None else (space,)


@dataclass
class _Node:
    """A node of the trie: its children by token, its depth, the best weight of phrases that go on after it, and the weight
    of the one that ends here."""

    depth: int
    children: dict[int, int] = field(default_factory=dict)
    beyond: float = 0.0
    own: float = 0.0


class Phrases(Automaton):
    """The automaton of phrases; its states are the nodes of their trie.

    Args:
        phrases: token ids, none empty, with a weight per token.
        vocabulary: V.
        begin: tokens with which all phrases begin, and which count as said before the first one of a text (``<space>`` of
            characters).

    Attributes:
        openings: of each token that a phrase begins with after ``begin``, the most tokens of such a phrase.

    Raises:
        UserError: the phrases are so many that the table would not fit.
    """

    def __init__(self, phrases: Mapping[Phrase, float], vocabulary: int, device: torch.device, begin: Phrase = ()):
        nodes = _trie(phrases)
        used = sorted({token for phrase in phrases for token in phrase})
        if len(nodes) * (len(used) + 1) > MOST_CELLS:
            raise UserError(
                f"the phrases have {len(nodes) - 1} tokens, {len(used)} of them different, expected a product of at most "
                f"{MOST_CELLS}; list fewer phrases"
            )
        self.memory = max(len(phrase) for phrase in phrases)
        self.device = device
        self.openings = _openings([phrase[len(begin) :] for phrase in phrases])
        # 1. Columns of the table: the tokens of phrases, and one for all others, after which nothing matters.
        column = torch.full((vocabulary,), len(used), dtype=torch.long)
        column[used] = torch.arange(len(used))
        # 2. Breadth first: a node has the transitions of the longest suffix that is a node too, and its own.
        table = torch.zeros(len(nodes), len(used) + 1, dtype=torch.int32)
        emitted = [node.own for node in nodes]
        pending = [node.depth * node.beyond for node in nodes]
        at = {token: i for i, token in enumerate(used)}
        queue = deque([(ROOT, ROOT)])  # nodes with their suffixes
        while queue:
            node, suffix = queue.popleft()
            if node != ROOT:
                table[node] = table[suffix]
                emitted[node] += emitted[suffix]
                pending[node] = max(pending[node], pending[suffix])
            for token, child in nodes[node].children.items():
                queue.append((child, ROOT if node == ROOT else int(table[suffix, at[token]])))
                table[node, at[token]] = child
        # 3. A token earns what ends with it, and what may come of it; what the state before was paid in advance is taken back.
        scores = torch.tensor([emitted, pending], dtype=torch.float64).float()
        [self._column] = to_device(device, column)
        [self._table] = to_device(device, table)
        self._value, self._pending = to_device(device, scores.sum(0), scores[1])
        [self._used] = to_device(device, torch.tensor(used))
        state = ROOT
        for token in begin:
            state = int(table[state, column[token]])
        self.begin = state

    def gains(self, state: Tensor, tokens: Tensor) -> Tensor:
        following = self._table[state.unsqueeze(1), self._column[tokens]].long()
        return self._value[following] - self._pending[state].unsqueeze(1)

    def step(self, state: Tensor, tokens: Tensor) -> Tensor:
        return self._table[state, self._column[tokens]].long()

    def all_gains(self, state: Tensor) -> Tensor:
        """What every token adds after ``state`` (N,): (N, V)."""
        back = self._pending[state].unsqueeze(1)
        of_used = self._value[self._table[state, : len(self._used)].long()] - back
        return (-back).expand(-1, len(self._column)).index_copy(1, self._used, of_used)


def _openings(phrases: Sequence[Phrase]) -> dict[int, int]:
    """Of each token that a phrase begins with, the most tokens of such a phrase."""
    found: dict[int, int] = {}
    for phrase in phrases:
        found[phrase[0]] = max(found.get(phrase[0], 0), len(phrase))
    return found


def _trie(phrases: Mapping[Phrase, float]) -> list[_Node]:
    """The nodes of the trie, the root first."""
    nodes = [_Node(0)]
    for phrase, weight in phrases.items():
        node = nodes[ROOT]
        for token in phrase:
            node.beyond = max(node.beyond, weight)
            if token not in node.children:
                node.children[token] = len(nodes)
                nodes.append(_Node(node.depth + 1))
            node = nodes[node.children[token]]
        node.own = weight * len(phrase)
    return nodes


@lru_cache(maxsize=8)
def _automaton(
    path: str, stamp: tuple[int, int], tokenizer: Tokenizer, vocabulary: int, device: torch.device
) -> Phrases:
    return Phrases(spell_phrases(read_phrases(path), tokenizer), vocabulary, device, _begin(tokenizer))


def phrase_automaton(path: str, tokenizer: Tokenizer, vocabulary: int, device: torch.device) -> Phrases:
    """The automaton of the phrases in a file, made once while the file stays as it is.

    Raises:
        UserError: the file cannot be read, or the tokens cannot spell a phrase.
    """
    try:
        stamp = file_stamp(path)
    except OSError:
        read_phrases(path)  # says why
        raise
    return _automaton(path, stamp, tokenizer, vocabulary, device)
