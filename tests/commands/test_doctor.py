"""``doctor`` says what is here, and its self-test notices a decoder that is wrong."""

from __future__ import annotations

import pytest
import torch

import parlab
from parlab.cli import main
from parlab.commands import doctor
from parlab.decode import PAR
from parlab.types import Hypothesis


def test_a_sound_installation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert f"parlab         {parlab.__version__}" in printed
    assert f"torch          {torch.__version__}" in printed
    assert printed.count("ok ") == 4 and "FAILED" not in printed


def test_a_broken_decoder_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(PAR, "decode", lambda self, model, encoded: _words(len(encoded)))
    assert main(["doctor", "--device", "cpu"]) == 1
    assert "FAILED par with nothing masked is greedy CTC" in capsys.readouterr().out


def _words(count: int) -> list[Hypothesis]:
    return [Hypothesis((5,), 0.0) for _ in range(count)]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    monkeypatch.setattr(doctor, "self_test", lambda device: iter(()))
    assert main(["doctor"]) == 0
    assert "transformers     missing    Whisper models" in capsys.readouterr().out
