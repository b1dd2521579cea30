"""Training data is checked before training begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parlab.data.checks import (
    check_duration,
    check_some_audio,
    check_training_data,
    with_durations,
    with_known_durations,
)
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.text.tokenizer import Tokenizer

LETTERS = Tokenizer(["<blank>", "<unk>", "<space>", *"ABC", "<sos/eos>"], "char")


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(8000 * (i + 1)), 8000)
    return [Utterance(f"u{i}", tmp_path / f"{i}.wav", "A B", i + 1.0) for i in range(3)]


def test_limits_are_inclusive(utterances: list[Utterance]) -> None:
    assert check_training_data(utterances, LETTERS) == utterances
    assert check_training_data(utterances, None, 2.0, 3.0) == utterances[1:]
    assert check_training_data(utterances, None, 1.5, 2.5) == utterances[1:2]
    with pytest.raises(UserError, match=r"no utterance lasts from 4\.0 to 5\.0 s"):
        check_training_data(utterances, None, 4.0, 5.0)


@pytest.mark.parametrize("text", [None, "", "  "])
def test_no_reference(text: str | None, utterances: list[Utterance]) -> None:
    utterances[1] = replace(utterances[1], text=text)
    with pytest.raises(UserError, match="'u1' has no reference"):
        check_training_data(utterances, LETTERS)


def test_a_reference_that_cannot_be_spelt(utterances: list[Utterance]) -> None:
    utterances[2] = replace(utterances[2], text="A D")
    with pytest.raises(UserError, match="cannot spell 'D' in the reference of 'u2'"):
        check_training_data(utterances, LETTERS)
    assert check_training_data(utterances, None) == utterances


def test_missing_and_empty_audio(utterances: list[Utterance]) -> None:
    utterances[0].audio.unlink()
    utterances[2].audio.write_bytes(b"")
    with pytest.raises(UserError, match=r"2 of 3 audio files are missing or empty, the first is .*0\.wav of 'u0'"):
        check_training_data(utterances, LETTERS)
    assert check_training_data(utterances, LETTERS, 1.5, 2.5) == utterances[1:2]  # what is not used need not be there


def test_durations_from_headers(utterances: list[Utterance]) -> None:
    unknown = [replace(u, duration=None) for u in utterances]
    assert with_durations(unknown) == utterances
    assert with_durations([replace(unknown[2], start=0.5)])[0].duration == 2.5
    known = [replace(utterances[0], duration=0.7, audio=Path("absent.wav"))]
    assert with_durations(known) == known  # what the manifest says is not looked up
    with pytest.raises(UserError, match="is missing"):
        with_durations([replace(known[0], duration=None)])


def test_shorter_than_the_manifest_says(utterances: list[Utterance]) -> None:
    long = replace(utterances[0], duration=10.0)
    check_duration(long, 9.5)
    with pytest.raises(UserError, match=r"is truncated: 9\.20 s are there, expected 10\.00 s"):
        check_duration(long, 9.2)
    check_duration(replace(long, duration=None), 0.1)


def test_durations_that_headers_know(utterances: list[Utterance], tmp_path: Path) -> None:
    """Known ones stay, a part of a file is shorter by its start, and what cannot be read keeps none."""
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    unknown = [replace(utterances[2], duration=None, start=0.5), replace(utterances[0], duration=None)]
    broken = [Utterance("b", tmp_path / "broken.wav"), Utterance("m", tmp_path / "missing.wav")]
    found = with_known_durations([*unknown, utterances[1], *broken])
    assert [u.duration for u in found] == [2.5, 1.0, 2.0, None, None]
    assert [u.id for u in found] == ["u2", "u0", "u1", "b", "m"]


def test_data_without_any_audio(utterances: list[Utterance], tmp_path: Path) -> None:
    check_some_audio([Utterance("m", tmp_path / "missing.wav"), utterances[0]])
    with pytest.raises(UserError, match="none of the 1 audio files exists"):
        check_some_audio([Utterance("m", tmp_path / "missing.wav")])
