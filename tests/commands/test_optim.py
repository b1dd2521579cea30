"""Schedules, freezing and learning rates by pattern."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from parlab.commands.fit.optim import Optimization, freeze, make_optimizer, matching
from parlab.errors import UserError


def net() -> nn.Module:
    return nn.ModuleDict({"encoder": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "decoder": nn.Linear(2, 3)})


def test_warmup_is_linear_and_then_follows_the_decay() -> None:
    options = Optimization(warmup_steps=10, decay="cosine", final=0.1)
    assert [options.factor(step, 0.0) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert [options.factor(100, p) for p in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert Optimization(warmup_steps=0, decay="linear", final=0.2).factor(5, 0.25) == pytest.approx(0.8)
    assert Optimization(warmup_steps=0, decay="constant").factor(5, 0.9) == 1.0


def test_inverse_square_root_meets_the_warmup() -> None:
    options = Optimization(warmup_steps=100, decay="inverse_sqrt")
    assert options.factor(99, 0.0) == pytest.approx(1.0)
    assert options.factor(399, 0.5) == pytest.approx(0.5)
    assert options.factor(49, 0.5) == pytest.approx(0.5)


def test_groups_by_learning_rate_and_weight_decay() -> None:
    model = net()
    options = Optimization(lr=1.0, weight_decay=0.1, lr_scale={"encoder.0.*": 0.5, "encoder.*": 0.25})
    groups = make_optimizer(model, options).param_groups
    found = {(g["lr"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    # Two matrices decay; biases and norms do not. The first pattern that matches counts.
    assert found == {(0.5, 0.1): 4, (0.5, 0.0): 2, (0.25, 0.0): 4, (1.0, 0.1): 6, (1.0, 0.0): 3}


def test_frozen_parameters_are_not_trained() -> None:
    model = net()
    freeze(model, ["encoder.*"])
    groups = make_optimizer(model, Optimization()).param_groups
    assert sum(p.numel() for g in groups for p in g["params"]) == 9
    assert not any(p.requires_grad for p in model["encoder"].parameters())


@pytest.mark.parametrize(
    "call", [lambda: freeze(net(), ["encdoer.*"]), lambda: matching("decodr.weight", ["decoder.weight"])]
)
def test_a_pattern_without_a_match_names_the_nearest(call: object) -> None:
    with pytest.raises(UserError, match=r"matches no parameter; did you mean '(encoder|decoder)"):
        call()  # type: ignore[operator]


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(UserError, match="freeze every parameter"):
        freeze(net(), ["*"])


@pytest.mark.parametrize("options", [{"decay": "cosin"}, {"schedule": "tiem"}, {"lr": 0.0}])
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="expected"):
        Optimization(**options)  # type: ignore[arg-type]


def test_adamw_leaves_parameters_without_gradient_alone() -> None:
    """What the module relies on when it skips a step: no gradient, no decay, no momentum."""
    model = net()
    optimizer = make_optimizer(model, Optimization(lr=0.1))
    model["decoder"](torch.ones(1, 2)).sum().backward()
    optimizer.step()
    before = model["decoder"].weight.clone()
    model["decoder"].weight.grad = None
    optimizer.step()
    assert torch.equal(before, model["decoder"].weight)
