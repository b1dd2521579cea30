"""The code of the documentation runs and does what its page says."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.decode import DECODERS
from parlab.decode.beam import BeamOptions, Groups, beam_search
from parlab.decode.scorers.attention import AttentionScorer
from tests.models import encoded, random_posteriors, tiny_model

PAGE = Path(__file__).parent.parent / "docs" / "new_decoder.md"


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def namespace() -> Any:
    names: dict[str, Any] = {"__name__": "docs"}
    known = dict(DECODERS)
    import sys
    import types

    module = types.ModuleType("docs")  # dataclasses look their module up
    sys.modules["docs"] = module
    exec(compile(blocks()[0] + blocks()[1], str(PAGE), "exec"), module.__dict__)
    names.update(module.__dict__)
    yield names
    DECODERS.clear()
    DECODERS.update(known)
    del sys.modules["docs"]


def test_the_decoder_of_the_page(namespace: dict[str, Any]) -> None:
    model = tiny_model(1, sharpness=6.0)
    states, lengths = torch.randn(3, 20, 32), torch.tensor([20, 13, 4])
    log_probs = random_posteriors(1, 3, 20, 21)
    greedy = DECODERS["greedy"]().decode(model, encoded(model, states, lengths, log_probs))
    same = DECODERS["agreement"](margin=2.0).decode(model, encoded(model, states, lengths, log_probs))
    assert [h.tokens for h in same] == [h.tokens for h in greedy]
    eager = DECODERS["agreement"](margin=-1.0).decode(model, encoded(model, states, lengths, log_probs))
    assert sum(h.counts["changed_tokens"] for h in eager) > 0
    for h, draft in zip(eager, greedy, strict=True):
        tokens = torch.tensor([[20, *draft.tokens]])
        i = greedy.index(draft)
        logits, _ = model.decoder(
            states[i : i + 1, : lengths[i]], lengths[i : i + 1], tokens, torch.tensor([tokens.size(1)])
        )
        for place, token in enumerate(h.tokens):
            logits[0, place, list(set(model.special.never) - {20})] = -1e9
            said = int(logits[0, place].argmax())
            assert token == (said if said != 20 else draft.tokens[place])


def test_the_scorer_of_the_page(namespace: dict[str, Any]) -> None:
    """A heavy penalty leaves no repeated token in the result."""
    model = tiny_model(3, sharpness=1.0)
    states, lengths = torch.randn(1, 20, 32), torch.tensor([20])
    rows = model.rows
    cross = rows.cross_cache(states, lengths)
    hidden, prefix = rows.prefill(torch.tensor([[20]]), cross)
    one = torch.tensor([0])
    attention = AttentionScorer(rows, cross, prefix, one, one + 1, hidden[:, 0])
    groups = Groups(torch.tensor([20]), torch.tensor([15]))
    options = BeamOptions(4, banned=(0, 20), force_all=True)
    found = beam_search([attention, namespace["Repetition"](1000.0)], groups, options)
    tokens = found.tokens[0, 0, : int(found.lengths[0, 0])].tolist()
    assert all(a != b for a, b in itertools.pairwise(tokens))
