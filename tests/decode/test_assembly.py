"""Frames of fills: an even share of the window, in order, inside it."""

from __future__ import annotations

import itertools

import pytest
import torch

from parlab.decode.assembly import assemble
from parlab.decode.fills import Fill
from parlab.decode.segments import Segments
from parlab.types import Hypothesis


@pytest.mark.parametrize(("width", "count"), itertools.product((1, 2, 3, 5, 8), range(9)))
def test_frames_of_a_fill_are_in_order_and_inside_the_window(width: int, count: int) -> None:
    """Also where the fill has more tokens than the window has frames."""
    first, last = 3, 3 + width - 1
    draft = Hypothesis((1, 2, 3), 0.0, (0.9, 0.1, 0.9), ((0, 2), (3, last), (last + 1, last + 4)))
    numbers = [torch.tensor([n]) for n in (0, 1, 2, 1, 3, first, last)]
    fill = Fill(tuple(range(4, 4 + count)), (0.5,) * count, -1.0, False, 1)
    [found] = assemble([draft], Segments(*numbers), [fill], [(1, 1)])
    assert found.tokens == (1, *fill.tokens, 3)
    assert len(found.token_frames) == len(found.tokens)
    spans = found.token_frames[1:-1]
    assert all(first <= a <= b <= last for a, b in spans)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(spans))
    if 0 < count <= width:  # every frame belongs to one token
        assert [t for a, b in spans for t in range(a, b + 1)] == list(range(first, last + 1))
