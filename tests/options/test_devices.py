"""Precision: what CUDA may round is said, never left to torch's defaults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from parlab.options.devices import TrainerOptions, make_fabric, make_trainer, precision_for_decoding, set_tf32


def rounds() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = rounds()
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(
    ("precision", "used", "rounded"),
    [
        (None, "32-true", False),
        ("32-true", "32-true", False),
        ("tf32", "tf32", True),
        ("bf16-true", "bf16-true", False),
        ("bf16-mixed", "bf16-true", False),
    ],
)
def test_a_prediction_sets_tf32(precision: str | None, used: str, rounded: bool) -> None:
    set_tf32(not rounded)
    trainer, name = make_trainer(TrainerOptions(device="cpu", precision=precision), [], progress=False)
    assert name == used
    assert rounds() == (rounded, rounded)
    assert trainer.precision == "32-true"  # the recognizer converts the weights, the front end stays float32


def test_a_sweep_sets_tf32() -> None:
    set_tf32(True)
    make_fabric("cpu", 1)
    assert rounds() == (False, False)


def test_mixed_is_replaced_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert precision_for_decoding("16-mixed") == "16-mixed"
    assert capsys.readouterr().err == ""
    assert precision_for_decoding("bf16-mixed") == "bf16-true"
    assert "bf16-true is used" in capsys.readouterr().err
