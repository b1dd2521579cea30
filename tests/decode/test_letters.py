"""CTC scores of fills by their characters, against the spelled fill and sums over all labellings."""

from __future__ import annotations

import itertools
import math
import types

import pytest
import torch

from parlab.decode.scorers import Rows
from parlab.decode.scorers.ctc_prefix import CTCPrefixScorer, Windows
from parlab.decode.scorers.letters import Letters, LetterScorer
from parlab.text.spelling import Spelling
from parlab.text.tokenizer import Tokenizer
from tests.models import random_posteriors
from tests.reference import ctc
from tests.reference import letters as reference

ALPHABETS = {"spaced": ["<blank>", "<space>", "a", "b"], "unspaced": ["<blank>", "a", "b", "c"]}
# Pieces of no, one or several characters; two that spell alike, one that is partly unknown, a symbol.
PIECES = [
    "<blank>",
    "\u2581",
    "a",
    "b",
    "\u2581a",
    "ab",
    "aa",
    "\u2581ba",
    "b\u2581",
    "x",
    "\u2581x\u2581",
    "<noise>",
    "bb\u2581aabbaabbaa",
    "<eos>",
]
STOP = len(PIECES) - 1


def scorer_for(
    alphabet: list[str], posteriors: torch.Tensor, spans: list[tuple[int, ...]], wide: bool = False
) -> LetterScorer:
    """A scorer of windows (owner, first frame, frames, left, right); a ``wide`` one is an accelerator's."""
    target = types.SimpleNamespace(token_list=PIECES, token_type="bpe")  # of it only the list is read
    spelling = Spelling(Tokenizer(alphabet, "char"), target)  # type: ignore[arg-type]
    letters = Letters(spelling.letter_table, spelling.space)
    owner, first, length, left, right = (torch.tensor(column) for column in zip(*spans, strict=True))
    windows = Windows(posteriors, owner, first, length, left, right, 0)
    if wide:
        return LetterScorer(CTCPrefixScorer(windows, 1.0, width=max(windows.width, 1)), letters, wide=True)
    return LetterScorer.of(windows, letters, 1.0)


def close(a: float, b: float) -> bool:
    return a == b or abs(a - b) < 1e-4 or (a < -900 and b == -math.inf)


def windows_of(posteriors: torch.Tensor, spans: list[tuple[int, ...]]) -> list[reference.Window]:
    rows = posteriors.double().tolist()
    return [reference.Window(rows[owner][first : first + n], left, right) for owner, first, n, left, right in spans]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", sorted(ALPHABETS))
@pytest.mark.parametrize("wide", [False, True])
def test_every_step_equals_the_spelled_fill(wide: bool, name: str, seed: int) -> None:
    """All next tokens of random fills over random windows of one batch, and the end of each fill."""
    alphabet = ALPHABETS[name]
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def neighbour() -> int:
        return (-1, *range(alphabet.index("a"), 4))[draw(0, 4 - alphabet.index("a"))]

    spans = [(i // 2, draw(0, 3), draw(0, 7), neighbour(), neighbour()) for i in range(6)]  # a window may be empty
    posteriors = random_posteriors(seed, 3, 10, 4, peak=2.0)
    scorer, windows = scorer_for(alphabet, posteriors, spans, wide), windows_of(posteriors, spans)
    group = torch.arange(len(spans))
    stop = torch.full_like(group, STOP)
    candidates = torch.arange(len(PIECES)).expand(len(spans), -1)
    state, fills = scorer.start(), [[] for _ in spans]
    score = [0.0] * len(spans)  # sums of the steps, as a search has them
    for _ in range(4):
        gains = scorer.score(state, candidates, stop).tolist()
        for window, fill, so_far, row in zip(windows, fills, score, gains, strict=True):
            for token, gain in enumerate(row):
                if token == STOP:
                    want = reference.total(window, fill, alphabet)
                else:
                    want = reference.prefix(window, [*fill, PIECES[token]], alphabet)
                assert close(so_far + gain, want), (window, fill, PIECES[token], so_far + gain, want)
        tokens = [draw(1, STOP - 1) for _ in spans]
        score = [s + row[t] for s, row, t in zip(score, gains, tokens, strict=True)]
        fills = [[*fill, PIECES[token]] for fill, token in zip(fills, tokens, strict=True)]
        state = scorer.advance(state, Rows(group, torch.tensor(tokens), group))
        for got, window, fill in zip(scorer.total(state).tolist(), windows, fills, strict=True):
            assert close(got, reference.total(window, fill, alphabet))
    # All tokens of a fill at once.
    lengths = torch.tensor([draw(0, 4) for _ in spans])
    columns = list(torch.tensor([[PIECES.index(piece) for piece in fill] for fill in fills]).unbind(1))
    for got, window, fill, n in zip(
        scorer.totals(columns, lengths, group).tolist(), windows, fills, lengths.tolist(), strict=True
    ):
        assert close(got, reference.total(window, fill[:n], alphabet))


@pytest.mark.parametrize(
    ("left", "right", "wide"),
    [(-1, -1, False), (2, -1, False), (-1, 3, False), (2, 3, False), (3, 3, False), (2, 3, True)],
)
def test_an_ended_fill_has_the_probability_of_its_spelling(left: int, right: int, wide: bool) -> None:
    """Summed over all labellings of four frames; and no fill's prefix is less probable than what it grows to."""
    alphabet = ALPHABETS["spaced"]
    posteriors = random_posteriors(5 + left + right, 1, 4, 4, peak=1.0)
    scorer = scorer_for(alphabet, posteriors, [(0, 0, 4, left, right)], wide)
    rows, one = posteriors[0].double().tolist(), torch.tensor([0])
    some = 0
    for n in range(3):
        for fill in itertools.product(range(1, STOP - 1), repeat=n):
            state = scorer.start()
            for token in fill:
                state = scorer.advance(state, Rows(one, torch.tensor([token]), one))
            letters = reference.spell([PIECES[t] for t in fill], alphabet, left, right, ended=True)
            want = ctc.total(rows, letters, left, right)
            assert close(float(scorer.total(state)), want), (fill, letters)
            some += want > -math.inf
            if letters:
                assert float(scorer.total(state)) <= float(state.ctc.score) + 1e-6
    assert some > 20


@pytest.mark.parametrize("wide", [False, True])
def test_rows_may_branch(wide: bool) -> None:
    """Rows that come from other rows of the last step, in another order, have their parents' characters."""
    alphabet = ALPHABETS["spaced"]
    posteriors = random_posteriors(3, 2, 6, 4, peak=2.0)
    spans = [(0, 0, 6, -1, 2), (1, 1, 5, 2, -1)]
    scorer, windows = scorer_for(alphabet, posteriors, spans, wide), windows_of(posteriors, spans)
    state = scorer.advance(
        scorer.start(), Rows(torch.tensor([0, 0, 1]), torch.tensor([4, 8, 5]), torch.tensor([0, 0, 1]))
    )
    parents, tokens, group = torch.tensor([1, 0, 2, 2]), torch.tensor([4, 6, 1, 11]), torch.tensor([0, 0, 1, 1])
    state = scorer.advance(state, Rows(parents, tokens, group))
    fills = [(8, 4), (4, 6), (5, 1), (5, 11)]
    for row, fill in enumerate(fills):
        texts, window = [PIECES[t] for t in fill], windows[int(group[row])]
        assert close(float(scorer.total(state)[row]), reference.total(window, texts, alphabet)), fill
        assert close(float(state.ctc.score[row]), reference.prefix(window, texts, alphabet)), fill


def test_characters_that_windows_may_hold() -> None:
    """A vocabulary's longest token is read to its end only where a window has frames for it."""
    table = torch.tensor([[-1] * 6, [2, -1, -1, -1, -1, -1], [1, 2, 2, 1, 3, -1], [2, 2, 2, 2, 2, 2]])
    letters = Letters(table, 1)
    assert letters.frames.tolist() == [0, 1, 4, 11]
    assert [letters.columns(w) for w in (0, 1, 3, 4, 10, 11, 90)] == [0, 1, 1, 5, 5, 6, 6]
