"""``transcribe``: text on standard output, failures on standard error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import parlab
from parlab.cli import main
from parlab.commands.transcribe.shown import marked
from parlab.types import Hypothesis, Segment
from tests.helpers import noise


def test_text_alone_for_one_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = noise(tmp_path / "a.wav", 0.9, seed=3)
    assert main(["transcribe", str(file), "--model", str(model)]) == 0
    (wanted,) = parlab.load(model).transcribe(file)
    assert capsys.readouterr().out == f"{wanted.text}\n"


def test_several_files_of_which_one_is_broken(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(noise(tmp_path / f"{name}.wav", 0.7, seed=i)) for i, name in enumerate("ab")]
    argv = ["transcribe", files[0], "missing.wav", files[1], "--model", str(model), "--decoder", "greedy"]
    assert main(argv) == 1
    out, err = capsys.readouterr()
    texts = [h.text for h in parlab.load(model).transcribe(files, decoder="greedy")]
    assert out == f"{files[0]}: {texts[0]}\n{files[1]}: {texts[1]}\n"
    assert "failed: missing.wav: the audio file missing.wav is missing" in err


def test_a_long_recording_is_cut_at_pauses(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [soundfile.read(noise(tmp_path / f"{i}.wav", 2.0, seed=i))[0] for i in range(12)]
    silence = np.zeros(8000)
    soundfile.write(tmp_path / "long.wav", np.concatenate([np.concatenate([p, silence]) for p in parts]), 16000)
    argv = ["transcribe", str(tmp_path / "long.wav"), "--model", str(model), "--decoder", "greedy", "--batch_size", "1"]
    assert main(argv) == 0
    found = parlab.load(model).transcribe_long(tmp_path / "long.wav", decoder="greedy")
    assert len(found) > 1
    assert capsys.readouterr().out == " ".join(h.text for h in found if h.text) + "\n"


def test_the_shipped_model_is_the_default(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from parlab.synth.espeak import Voice, speak

    soundfile.write(tmp_path / "a.wav", speak("one two three", Voice(rate=140)), 16000)
    assert main(["transcribe", str(tmp_path / "a.wav")]) == 0
    out, err = capsys.readouterr()
    assert out.strip()
    assert "the small one that parlab ships" in err


def test_what_is_highlighted() -> None:
    """Fills that changed the draft, and unsure tokens; the plain text is the hypothesis's."""
    tokens = ["<blank>", "\u2581A", "B", "\u2581C", "D"]
    segments = (Segment(1, 2, (3,), (2, 4)), Segment(3, 4, (1,), (1,)))
    hypothesis = Hypothesis((1, 2, 4, 3, 1), 0.0, (0.99, 0.5, 0.5, 0.8, 0.99), segments=segments, text="ABD C A")
    line = marked("", [hypothesis], tokens)
    assert line.plain == "ABD C A"
    styles = {line.plain[span.start : span.end]: str(span.style) for span in line.spans if span.style}
    assert styles == {"B": "bold green", "D": "bold green", " C": "yellow"}
    odd = Hypothesis((1,), 0.0, (0.9,), text="something else")
    assert marked("x: ", [odd], tokens).plain == "x: something else"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["transcribe"], "files"),
        (["transcribe", "a.wav", "--batch_size", "0"], "batch_size is 0"),
        (["transcribe", "a.wav", "--decoder", "parr"], "did you mean 'par'"),
        (["transcribe", "a.wav", "--model", "nowhere/at/all"], "no model at nowhere/at/all"),
    ],
)
def test_wrong_input(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err
