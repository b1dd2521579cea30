"""Every command on a tiny Whisper folder, as on an OWSM model."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from parlab.cli import main
from tests.helpers import lines, manifest
from tests.whisper import write_whisper

RATE = 16000


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multilingual model ``w`` with a window of 1 s, data ``d``, and a recording ``long.wav`` of bursts."""
    folder = tmp_path_factory.mktemp("work")
    write_whisper(folder / "w", seed=5)
    rng = np.random.default_rng(0)
    entries = []
    (folder / "d").mkdir()
    for i in range(5):
        wave = 0.2 * rng.standard_normal(6000 + 1500 * i)
        soundfile.write(folder / "d" / f"u{i}.wav", wave, RATE)
        entries.append({"id": f"u{i}", "audio_filepath": f"u{i}.wav", "duration": len(wave) / RATE, "text": "the cat"})
    manifest(folder / "d", entries)
    parts = [np.concatenate([0.3 * rng.standard_normal(RATE // 2), np.zeros(RATE // 4)]) for _ in range(5)]
    soundfile.write(folder / "long.wav", np.concatenate(parts), RATE)
    return folder


def predict(work: Path, data: str, out: Path, *more: str) -> int:
    asked = ["--model", str(work / "w"), "--data", str(work / data), "--out", str(out)]
    return main(["predict", *asked, "--wandb", "off", "--progress", "false", *more])


def test_predict_report_and_rerun(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a decoder's name it is ``ar`` without CTC; batches change nothing."""
    plain, other = tmp_path / "plain", tmp_path / "other"
    assert predict(work, "d/data.jsonl", plain) == 0
    assert (
        predict(work, "d/data.jsonl", other, "--decoder", "ar", "--decoder.ctc_weight", "0", "--batch_size", "1") == 0
    )
    metrics = json.loads((plain / "metrics.json").read_text())
    assert metrics["decoder"]["name"] == "ar"
    assert metrics["decoder"]["options"]["ctc_weight"] == 0.0
    assert metrics["versions"]["transformers"]
    assert [r["tokens"] for r in lines(plain)] == [r["tokens"] for r in lines(other)]
    assert main(["report", str(plain), str(other), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").stat().st_size > 10_000
    assert main(["compare", str(plain), str(other)]) == 0
    assert main(["rerun", str(plain)]) == 0
    assert "text of all 5 utterances is the same" in capsys.readouterr().out


def test_sweep(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    asked = ["--model", str(work / "w"), "--data", str(work / "d" / "data.jsonl"), "--out", str(out), "--wandb", "off"]
    options = ["--decoder", "ar", "--decoder.ctc_weight", "0", "--decoder.beam_size", "1,4", "--repeats", "1"]
    assert main(["sweep", *asked, *options, "--timed_utterances", "2"]) == 0
    for beam_size in ("1", "4"):
        alone = tmp_path / beam_size
        given = ["--decoder", "ar", "--decoder.ctc_weight", "0", "--decoder.beam_size", beam_size]
        assert predict(work, "d/data.jsonl", alone, *given) == 0
        point = out / "points" / f"ctc_weight=0,beam_size={beam_size}"
        assert [r["tokens"] for r in lines(point)] == [r["tokens"] for r in lines(alone)]


def test_long_audio_with_times_and_subtitles(work: Path, tmp_path: Path) -> None:
    """Pieces of at most a window, times counted from the recording's start, a rerun with the same text."""
    out = tmp_path / "p"
    asked = ["--long_audio", "true", "--subtitles", "[srt,vtt,json]", "--timestamps", "true", "--language", "de"]
    assert predict(work, "long.wav", out, *asked) == 0
    [record] = lines(out)
    assert len(record["pieces"]) >= 4
    assert all(piece["duration"] <= 1.0 for piece in record["pieces"])
    assert record["times"]
    assert all(a[0] <= b[0] for a, b in pairwise(record["times"]))
    assert record["times"][-1][1] <= 3.75 + 1.0
    srt = (out / "transcripts" / "long.srt").read_text(encoding="utf-8")
    assert srt.count("-->") == len(record["times"])
    assert main(["rerun", str(out)]) == 0


def test_transcribe(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording longer than the window is cut by itself."""
    files = [str(work / "d" / "u0.wav"), str(work / "long.wav")]
    assert main(["transcribe", *files, "--model", str(work / "w"), "--language", "fr"]) == 0
    out = capsys.readouterr().out
    assert "u0.wav: " in out and "long.wav: " in out


def test_a_hub_id_is_found_in_the_cache(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--someone--whisper-tiny"
    commit = "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(work / "w", target_is_directory=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    asked = ["--model", "someone/whisper-tiny", "--data", str(work / "d"), "--out", "p", "--limit", "1"]
    assert main(["predict", *asked, "--wandb", "off", "--progress", "false"]) == 0
