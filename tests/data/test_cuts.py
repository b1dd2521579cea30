"""Lhotse cuts: what is read of them, and cuts whose audio would come out wrong are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from parlab.data.sources import read_data
from parlab.data.utterance import Utterance
from parlab.errors import UserError


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(32000), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "two.wav", 0.1 * rng.standard_normal((16000, 2)), 16000)
    return tmp_path / "a.wav"


@pytest.fixture
def cut(audio: Path) -> Any:
    from lhotse import Recording

    return Recording.from_file(audio, recording_id="r").to_cut()


def written(path: Path, *cuts: Any) -> Path:
    from lhotse import CutSet

    CutSet.from_cuts(cuts).to_file(path)
    return path


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz", "cuts.json"])
def test_every_kind_of_file(name: str, audio: Path, cut: Any, tmp_path: Path) -> None:
    from lhotse import MultiCut, Recording, SupervisionSegment

    whole = SupervisionSegment(
        "w", "r", 0.0, 2.0, text="ALL OF IT", speaker="s", language="en", custom={"text_prev": "BEFORE", "other": 1}
    )
    part = SupervisionSegment("p", "r", 0.0, 0.5, text="PART")
    stereo = Recording.from_file(audio.parent / "two.wav")
    cuts = [
        cut.with_id("whole"),
        cut.truncate(offset=0.25, duration=0.5).with_id("part"),
        MultiCut("both", 0.0, 1.0, [0, 1], recording=stereo),
    ]
    cuts[0].supervisions, cuts[1].supervisions = [whole], [part]
    assert read_data(written(tmp_path / name, *cuts)) == [
        Utterance("whole", audio, "ALL OF IT", 2.0, "s", extra={"lang": "en", "text_prev": "BEFORE"}),
        Utterance("part", audio, "PART", 0.5, None, 0.25),
        Utterance("both", audio.parent / "two.wav", None, 1.0),
    ]


def test_relative_paths(cut: Any, tmp_path: Path) -> None:
    cut.recording.sources[0].source = "a.wav"
    (read,) = read_data(written(tmp_path / "cuts.jsonl", cut))
    assert read.audio == tmp_path / "a.wav" and read.text is None


def test_texts_are_joined_in_the_order_of_time(cut: Any, tmp_path: Path) -> None:
    from lhotse import SupervisionSegment

    for start, text in ((1.0, "SECOND"), (0.0, "FIRST")):
        cut.supervisions.append(SupervisionSegment(text, "r", start, 1.0, text=text, speaker=text, language="en"))
    (read,) = read_data(written(tmp_path / "cuts.jsonl", cut))
    assert (read.text, read.speaker, read.extra) == ("FIRST SECOND", "FIRST", {"lang": "en"})


def channel_of_two(cut: Any, folder: Path) -> Any:
    from lhotse import MonoCut, Recording

    return MonoCut("c", 0.0, 1.0, 1, recording=Recording.from_file(folder / "two.wav"))


def without_recording(cut: Any, folder: Path) -> Any:
    cut.recording = None
    return cut


def by_command(cut: Any, folder: Path) -> Any:
    cut.recording.sources[0].type = "command"
    return cut


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cut, _: cut.perturb_speed(1.1), "has transforms"),
        (lambda cut, _: cut.perturb_volume(2.0), "has transforms"),
        (lambda cut, _: cut.pad(duration=3.0), "is a MixedCut without one recording"),
        (channel_of_two, "is channel 1 of 2"),
        (by_command, "has audio of type command"),
        (without_recording, "is a MonoCut without one recording"),
    ],
)
def test_other_audio_than_the_file_is_refused(change: Any, message: str, cut: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "cuts.jsonl", change(cut, tmp_path))
    with pytest.raises(UserError, match=message):
        read_data(path)


def test_a_resampled_cut_is_fine(cut: Any, tmp_path: Path) -> None:
    (read,) = read_data(written(tmp_path / "cuts.jsonl", cut.resample(8000)))
    assert read.duration == 2.0


def test_no_cuts(tmp_path: Path) -> None:
    (tmp_path / "cuts.jsonl").write_text('{"type": "MonoCut", "recording": 3}\n')
    with pytest.raises(UserError, match="cannot be read as Lhotse cuts"):
        read_data(tmp_path / "cuts.jsonl")
