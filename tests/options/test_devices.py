"""Precision: what CUDA may round is said, never left to torch's defaults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from parlab.options.devices import (
    TrainerOptions,
    default_workers,
    make_fabric,
    make_trainer,
    precision_for_decoding,
    set_tf32,
    warn_of_slow_bfloat16,
)


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


@pytest.mark.parametrize(
    ("flags", "dtype", "said"),
    [
        ("fpu avx avx2", torch.bfloat16, True),
        ("fpu avx2 avx512f avx512_bf16", torch.bfloat16, False),
        ("fpu avx2 amx_bf16", torch.bfloat16, False),
        ("fpu avx avx2", None, False),
        ("", torch.bfloat16, False),  # no x86 processor
    ],
)
def test_bfloat16_on_a_processor_without_it_is_warned_of(
    flags: str, dtype: torch.dtype | None, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags\t\t: {flags}\n" if flags else "Features : asimd bf16\n")
    warn_of_slow_bfloat16(torch.device("cpu"), dtype, info)
    assert ("leave --precision out" in capsys.readouterr().err) == said
    warn_of_slow_bfloat16(torch.device("cuda"), dtype, info)
    warn_of_slow_bfloat16(torch.device("cpu"), dtype, tmp_path / "none")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("device", "cores", "processes", "workers"),
    [
        ("cpu", 1, 1, 0),
        ("cpu", 2, 1, 0),
        ("cpu", 4, 1, 1),
        ("cpu", 64, 1, 1),
        ("cpu", 8, 4, 0),
        ("cuda", 1, 1, 0),
        ("cuda", 4, 1, 3),
        ("cuda", 16, 1, 8),
        ("cuda", 16, 8, 1),
    ],
)
def test_workers_by_default(
    device: str, cores: int, processes: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU outruns one core that reads audio; on a CPU the cores are needed for the network."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers(torch.device(device), processes) == workers
