"""Long recordings through ``predict`` and ``transcribe_long``: pieces, joined records, transcripts with times."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import parlab
from parlab.cli import main
from parlab.data.utterance import Utterance
from parlab.metrics.speed import Timing
from parlab.model.folder import write_model
from parlab.predictions.hypotheses import UtteranceRecord
from parlab.predictions.joining import join_pieces
from parlab.predictions.shards import ShardEntry
from parlab.predictions.subtitles import Timed, cues, words_of
from parlab.text.tokenizer import Tokenizer
from tests.models import s2t_config, s2t_model, s2t_tokenizer, tiny_model

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ASR model, a recording of 15 bursts, and a short one."""
    folder = tmp_path_factory.mktemp("long")
    model = tiny_model(3, sharpness=5.0)
    write_model(model, Tokenizer(model.token_list, "char"), folder / "model")
    rng = np.random.default_rng(0)
    parts = [np.concatenate([0.3 * rng.standard_normal(RATE // 2), np.zeros(RATE // 2)]) for _ in range(15)]
    (folder / "audio").mkdir()
    soundfile.write(folder / "audio" / "long.wav", np.concatenate(parts), RATE)
    soundfile.write(folder / "audio" / "short.wav", parts[0], RATE)
    return folder


def predict(folder: Path, out: Path, *more: str) -> int:
    asked = ["--model", str(folder / "model"), "--data", str(folder / "audio"), "--out", str(out), "--decoder", "par"]
    return main(["predict", *asked, "--decoder.threshold", "0.9", "--wandb", "off", "--progress", "false", *more])


def records(out: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "hypotheses.jsonl").read_text().splitlines()]
    return {r["id"]: r for r in lines}


def test_long_recordings_are_joined(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    assert predict(folder, out, "--long_audio", "true", "--piece_seconds", "4", "--subtitles", "[srt,vtt,json]") == 0
    found = records(out)
    assert set(found) == {"long", "short"}
    whole = found["long"]
    assert len(whole["pieces"]) >= 4
    assert whole["text"] == " ".join(p["text"] for p in whole["pieces"] if p["text"])
    assert whole["duration"] == pytest.approx(15.0, abs=0.01)
    starts = [p["start"] for p in whole["pieces"]]
    assert starts == sorted(starts)
    times = [start for start, _ in whole["token_times"]]
    assert times == sorted(times)
    assert times[-1] > 11
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["utterances"] == 2
    assert metrics["speed"]["audio_seconds"] == pytest.approx(16.0, abs=0.02)
    assert metrics["par"]["tokens"] == sum(r["counts"]["tokens"] for r in found.values())
    for form in ("srt", "vtt", "json"):
        assert (out / "transcripts" / f"long.{form}").is_file()
    assert (out / "transcripts" / "long.vtt").read_text().startswith("WEBVTT\n\n00:00:")
    shown = json.loads((out / "transcripts" / "long.json").read_text())
    assert " ".join(w["word"] for w in shown["words"]) == whole["text"]


def test_each_piece_is_what_it_is_alone(folder: Path, tmp_path: Path) -> None:
    assert predict(folder, tmp_path / "p", "--long_audio", "true", "--piece_seconds", "4") == 0
    whole = records(tmp_path / "p")["long"]
    asr = parlab.load(folder / "model", device="cpu")
    samples, _ = soundfile.read(folder / "audio" / "long.wav", dtype="float32")
    edges = [round(p["start"] * RATE) for p in whole["pieces"]] + [len(samples)]
    alone = [asr.transcribe((samples[a:b], RATE), decoder="par", threshold=0.9)[0].text for a, b in pairwise(edges)]
    assert alone == [p["text"] for p in whole["pieces"]]
    through = asr.transcribe_long(folder / "audio" / "long.wav", piece_seconds=4.0, threshold=0.9)
    assert [h.text for h in through] == alone
    held = asr.transcribe_long((samples, RATE), piece_seconds=4.0, threshold=0.9, batch_size=2)
    assert [h.token_times for h in held] == [h.token_times for h in through]


def test_without_the_option_a_long_recording_fails_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(folder, tmp_path / "p", "--max_seconds", "5") == 1
    assert set(records(tmp_path / "p")) == {"short"}
    assert "--long_audio" in capsys.readouterr().err


def test_s2t_models_cut_at_their_window(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = s2t_tokenizer(tmp_path)
    write_model(s2t_model(tokenizer, seed=1), tokenizer, tmp_path / "model")
    asked = [
        "--model",
        str(tmp_path / "model"),
        "--data",
        str(folder / "audio"),
        "--wandb",
        "off",
        "--progress",
        "false",
    ]
    assert main(["predict", *asked, "--out", str(tmp_path / "a"), "--decoder", "par"]) == 1
    assert "expected at most 2 s" in capsys.readouterr().err
    timed = [
        "--decoder",
        "ar",
        "--decoder.ctc_weight",
        "0",
        "--timestamps",
        "true",
        "--language",
        "auto",
        "--decoder.beam_size",
        "2",
    ]
    more = ["--long_audio", "true", "--subtitles", "[srt]"]
    assert main(["predict", *asked, "--out", str(tmp_path / "b"), *timed, *more]) == 0
    whole = records(tmp_path / "b")["long"]
    assert len(whole["pieces"]) >= 8
    assert all(p["duration"] <= 2.0 for p in whole["pieces"])
    assert whole["times"]
    assert main(["predict", *asked, "--out", str(tmp_path / "c"), "--long_audio", "true", "--language", "egn"]) == 2
    assert "did you mean 'eng'" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()


def test_owsm_ctc_predicts(folder: Path, tmp_path: Path) -> None:
    tokenizer = s2t_tokenizer(tmp_path)
    write_model(s2t_model(tokenizer, "s2t_ctc", seed=1), tokenizer, tmp_path / "model")
    asked = ["--model", str(tmp_path / "model"), "--data", str(folder / "audio" / "short.wav"), "--wandb", "off"]
    for name in ("greedy", "ctc_beam"):
        out = tmp_path / name
        assert (
            main(["predict", *asked, "--out", str(out), "--decoder", name, "--language", "deu", "--progress", "false"])
            == 0
        )
        assert "<" not in records(out)["short"]["text"]
    asked += ["--out", str(tmp_path / "par"), "--decoder", "par", "--progress", "false"]
    assert main(["predict", *asked]) == 2


def test_prompts_are_for_s2t_models(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(folder, tmp_path / "p", "--language", "eng") == 2
    assert "for S2T (OWSM, Whisper) models" in capsys.readouterr().err
    assert predict(folder, tmp_path / "p", "--subtitles", "[srt,vt]") == 2
    assert "no subtitle format 'vt'" in capsys.readouterr().err
    assert s2t_config(s2t_tokenizer(tmp_path))["encoder"] == "e_branchformer"


def test_segments_of_pieces_are_those_of_the_whole_draft() -> None:
    """Counted in draft tokens: a fill may be longer or shorter than what it replaced."""

    def piece(name: str, tokens: list[int], segments: list[dict[str, Any]]) -> ShardEntry:
        text = [str(t) for t in tokens]
        same = {"duration": 2.0, "score": -1.0, "seconds": 0.5, "counts": {"tokens": 3}}
        line = {
            "id": name,
            "text": " ".join(text),
            "tokens": tokens,
            "token_text": text,
            "token_confidence": [1.0] * len(tokens),
            "segments": segments,
            **same,
        }
        return ShardEntry(UtteranceRecord.from_json(line), Timing(latency=1.0))

    filled = piece("a#0000", [1, 7, 8, 3], [{"start": 1, "end": 2, "draft": [2], "fill": [7, 8]}])
    emptied = piece("a#0001", [5], [{"start": 1, "end": 3, "draft": [4, 4], "fill": []}])
    parts = [
        Utterance(f"a#000{i}", Path("a.wav"), start=2.0 * i, duration=2.0, extra={"part_of": "a"}) for i in range(2)
    ]
    whole = join_pieces([emptied, filled], [Utterance("a", Path("a.wav"), "one two")], parts)[0].record
    assert whole.tokens == (1, 7, 8, 3, 5)
    assert [(s.start, s.end) for s in whole.segments] == [(1, 2), (4, 6)]  # the draft was 1 2 3 | 5 4 4
    assert whole.counts == {"tokens": 6}
    assert (whole.ref, whole.duration, whole.score) == ("one two", 4.0, -2.0)


def test_words_and_cues() -> None:
    record = UtteranceRecord(
        id="a",
        text="HELLO YOU THERE",
        token_text=("\u2581HE", "LLO", "\u2581YOU", "<eng>", "\u2581THERE"),
        token_times=((0.1, 0.2), (0.3, 0.4), (0.5, 0.9), (1.0, 1.0), (2.0, 2.4)),
        duration=3.0,
    )
    assert words_of(record) == [Timed(0.1, 0.4, "HELLO"), Timed(0.5, 0.9, "YOU"), Timed(2.0, 2.4, "THERE")]
    assert cues(record) == [Timed(0.1, 0.9, "HELLO YOU"), Timed(2.0, 2.4, "THERE")]
    assert cues(replace(record, token_times=())) == [Timed(0.0, 3.0, "HELLO YOU THERE")]
    assert cues(replace(record, times=((0.0, 1.0, "HELLO"),))) == [Timed(0.0, 1.0, "HELLO")]
