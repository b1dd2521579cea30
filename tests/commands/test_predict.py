"""``predict``: the files, bad input, restarts, devices."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import parlab
from parlab.cli import main
from parlab.commands.predict.options import PredictOptions
from parlab.commands.predict.run import Job
from parlab.decode import PAR
from parlab.errors import UserError
from parlab.predictions.provenance import hash_data
from tests.helpers import SENTENCES, command, environment, lines, manifest, noise, predict, timeless


def run(model: Path, data: Path, out: Path, *more: str) -> int:
    base = [
        "predict",
        "--model",
        str(model),
        "--data",
        str(data),
        "--out",
        str(out),
        "--wandb",
        "off",
        "--progress",
        "false",
    ]
    return main([*base, *more])


def test_the_files_of_the_contract(model: Path, data: Path, tmp_path: Path) -> None:
    assert run(model, data, tmp_path / "p", "--decoder", "par", "--decoder.threshold", "0.999") == 0
    found = lines(tmp_path / "p")
    assert [line["id"] for line in found] == sorted(line["id"] for line in found)
    keys = {"id", "text", "ref", "tokens", "token_confidence", "segments", "score", "duration", "seconds"}
    assert all(keys <= set(line) for line in found)
    assert any(line["segments"] for line in found)
    for line in found:
        assert len(line["tokens"]) == len(line["token_confidence"]) == len(line["token_frames"])
        for segment in line["segments"]:
            assert {"start", "end", "draft", "fill"} <= set(segment)
    metrics = json.loads((tmp_path / "p" / "metrics.json").read_text())
    assert metrics["decoder"]["name"] == "par"
    assert metrics["decoder"]["options"]["threshold"] == 0.999
    for rate in ("wer", "cer"):
        entry = metrics[rate]
        assert entry["errors"] == entry["substitutions"] + entry["insertions"] + entry["deletions"]
        assert entry["rate"] == entry["errors"] / entry["total"]
    assert metrics["wer"]["total"] == sum(len(text.split()) for text in SENTENCES)
    speed = (
        "audio_seconds wall_seconds rtf rtfx load_seconds encode_seconds ctc_seconds search_seconds latency_p50 "
        "latency_p90 latency_p99 peak_memory_bytes batch_size precision device num_devices"
    )
    assert set(speed.split()) <= set(metrics["speed"])
    assert metrics["speed"]["audio_seconds"] == pytest.approx(sum(0.4 + 0.25 * i for i in range(8)), abs=0.01)
    busy = sum(metrics["speed"][f"{k}_seconds"] for k in ("encode", "ctc", "search"))
    assert metrics["speed"]["rtfx"] == pytest.approx(metrics["speed"]["audio_seconds"] / busy, rel=1e-3)
    par = (
        "utterances_with_masks tokens masked_tokens segments mean_segment_length max_segment_length decoder_steps "
        "forced_stops"
    )
    assert set(par.split()) <= set(metrics["par"])
    assert metrics["par"]["masked_tokens"] == sum(s["end"] - s["start"] for line in found for s in line["segments"])
    assert metrics["failed"] == []
    assert metrics["versions"]["parlab"] == parlab.__version__


@pytest.mark.parametrize("decoder", ["greedy", "ctc_beam", "rescore", "ar", "par", "speculative"])
def test_every_decoder(decoder: str, model: Path, data: Path, tmp_path: Path) -> None:
    assert run(model, data, tmp_path / decoder, "--decoder", decoder, "--limit", "3") == 0
    assert len(lines(tmp_path / decoder)) == 3


@pytest.mark.slow  # two processes start
def test_par_is_the_default_and_the_console_is_quiet(model: Path, data: Path, tmp_path: Path) -> None:
    """In a process of its own, as users start it: standard error is empty, no tips and no warnings of other packages."""
    env = {k: v for k, v in environment().items() if k != "PYTHONWARNINGS"}
    out = ["--out", str(tmp_path / "p"), "--wandb", "off", "--progress", "false"]
    asked = [sys.executable, "-m", "parlab", "predict", "--model", str(model), "--data", str(data), *out]
    done = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "p" / "metrics.json").read_text())["decoder"]["name"] == "par"
    assert len(done.stdout.splitlines()) == 2 and done.stdout.startswith("par | WER ")
    heard = [sys.executable, "-m", "parlab", "transcribe", str(noise(tmp_path / "a.wav", 0.9, seed=3))]
    done = subprocess.run([*heard, "--model", str(model)], env=env, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_batches_change_nothing(model: Path, data: Path, tmp_path: Path) -> None:
    assert (
        run(model, data, tmp_path / "a", "--decoder", "par", "--decoder.threshold", "0.999", "--batch_size", "8") == 0
    )
    assert (
        run(model, data, tmp_path / "b", "--decoder", "par", "--decoder.threshold", "0.999", "--batch_size", "1") == 0
    )
    a, b = timeless(tmp_path / "a"), timeless(tmp_path / "b")
    assert [x["tokens"] for x in a] == [x["tokens"] for x in b]
    for x, y in zip(a, b, strict=True):
        assert [s["fill"] for s in x["segments"]] == [s["fill"] for s in y["segments"]]
        assert x["score"] == pytest.approx(y["score"], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--decoder", "parr"], "did you mean 'par'"),
        (["--decoder", "par", "--decoder.thresold", "1"], "did you mean 'threshold'"),
        (["--decoder", "par", "--decoder.threshold", "3"], "expected a probability"),
        (["--decoder", "par", "--decoder.threshold", "high"], "threshold"),
        (["--bach_size", "3"], "did you mean '--batch_size'"),
        (["--normalizer", "bsic"], "did you mean 'basic'"),
        (["--wandb", "onlin"], "did you mean 'online'"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(
    options: list[str], message: str, model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, data, tmp_path / "p", *options) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_bad_file_costs_that_file_only(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "d"
    noise(folder / "good.wav", 0.7)
    noise(folder / "eight.wav", 0.7, rate=8000)
    noise(folder / "fortyeight.wav", 0.7, rate=48000)
    noise(folder / "stereo.wav", 0.7, channels=2)
    soundfile.write(folder / "zeros.wav", np.zeros(9000), 16000)
    soundfile.write(folder / "nan.wav", np.full(9000, math.nan, dtype=np.float32), 16000, subtype="FLOAT")
    soundfile.write(folder / "one.wav", np.zeros(1), 16000)
    noise(folder / "long.wav", 200.0, rate=8000)
    (folder / "empty.wav").write_bytes(b"")
    whole = (folder / "good.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    noise(folder / "whole.flac", 0.7)
    flac = (folder / "whole.flac").read_bytes()
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 3])
    names = "good eight fortyeight stereo zeros nan one long empty cut missing".split()
    entries = [{"id": n, "audio_filepath": f"{n}.wav", "text": "" if n == "stereo" else "a bad"} for n in names]
    data = manifest(folder, [*entries, {"id": "cutflac", "audio_filepath": "cut.flac", "text": "a"}])
    assert run(model, data, tmp_path / "p", "--decoder", "greedy") == 1
    found = {line["id"]: line for line in lines(tmp_path / "p")}
    metrics = json.loads((tmp_path / "p" / "metrics.json").read_text())
    failed = {entry["id"]: entry["reason"] for entry in metrics["failed"]}
    assert {"good", "eight", "fortyeight", "stereo", "zeros"} <= set(found)
    assert set(found) | set(failed) == {*names, "cutflac"}
    assert not set(found) & set(failed)
    assert "missing" in failed["missing"]
    assert "0 bytes" in failed["empty"]
    assert "not finite" in failed["nan"]
    assert "1 samples" in failed["one"]
    assert "200 s long" in failed["long"]
    assert "cutflac" in failed
    assert found["stereo"]["text"] == found["good"]["text"]
    assert metrics["wer"]["total"] == 2 * sum(n != "stereo" for n in found)
    assert "failed: nan" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "audio_filepath": "a.wav"}\nnot json\n', "line 2: no valid JSON"),
        ('{"id": "a"}\n', "line 1: the key 'audio_filepath' is missing"),
        ('{"id": "a", "audio_filepath": "a.wav"}\n{"id": "a", "audio_filepath": "b.wav"}\n', "lines 1 and 2"),
        (
            '{"id": "a", "audio_filepath": "a.wav", "duration": "long"}\n',
            "line 1: 'duration' is 'long', expected seconds",
        ),
        ("", "no utterances"),
    ],
)
def test_bad_manifests(
    text: str, message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    assert run(model, tmp_path / "m.jsonl", tmp_path / "p") == 2
    assert message in capsys.readouterr().err


def test_another_configuration_is_refused(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, data, tmp_path / "p", "--decoder", "greedy") == 0
    before = (tmp_path / "p" / "hypotheses.jsonl").read_bytes()
    assert run(model, data, tmp_path / "p", "--decoder", "par") == 2
    assert "another configuration" in capsys.readouterr().err
    assert (tmp_path / "p" / "hypotheses.jsonl").read_bytes() == before
    assert run(model, data, tmp_path / "p", "--decoder", "greedy") == 0  # the same one is done already


def test_a_restart_does_the_rest(model: Path, data: Path, tmp_path: Path) -> None:
    """Half of the shard is there, its last line cut in two: the same result as an unbroken run."""
    decoder = PAR(threshold=0.999)
    whole = predict(str(model), str(data), decoder, tmp_path / "whole", batch_size=2)
    out = tmp_path / "cut"
    predict(str(model), str(data), decoder, out, batch_size=2)
    shard = out / "shards" / "rank0.jsonl"
    text = shard.read_text()
    shard.write_text(text[: len(text) // 2])
    (out / "hypotheses.jsonl").unlink()
    (out / "metrics.json").unlink()
    again = predict(str(model), str(data), decoder, out, batch_size=2)
    assert timeless(out) == timeless(tmp_path / "whole")
    assert again is not None
    assert whole is not None
    assert again.wer == whole.wer


def test_failures_are_tried_again(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    noise(folder / "a.wav", 0.5)
    data = manifest(folder, [{"id": n, "audio_filepath": f"{n}.wav"} for n in "ab"])
    assert run(model, data, tmp_path / "p") == 1
    noise(folder / "b.wav", 0.5)
    assert run(model, data, tmp_path / "p") == 0
    assert [line["id"] for line in lines(tmp_path / "p")] == ["a", "b"]
    assert "wer" not in json.loads((tmp_path / "p" / "metrics.json").read_text())


def test_batches_are_bounded_where_only_headers_know_the_durations(model: Path, tmp_path: Path) -> None:
    """A long file in a folder is not padded to, and the hash is that of the data as they were named."""
    for i, seconds in enumerate((0.5, 9.0, 0.6, 0.4)):
        noise(tmp_path / "d" / f"{i}.wav", seconds)
    options = {"batch_seconds": 10.0, "wandb": "off", "progress": False}
    job = Job.of(PredictOptions(str(model), str(tmp_path / "d"), str(tmp_path / "p"), **options))
    assert [[u.id for u in batch] for batch in job.batches()] == [["1"], ["2", "0", "3"]]
    assert job.source().hashes.data == hash_data(job.recordings)
    assert [u.duration for u in job.recordings] == [None] * 4


def test_the_summary_says_what_it_is_over(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        noise(tmp_path / "d" / f"{name}.wav", 0.5)
    entries = [{"id": n, "audio_filepath": f"{n}.wav"} for n in "abc"]
    data = manifest(tmp_path / "d", [{**entries[0], "text": "a bad"}, *entries[1:]])
    assert run(model, data, tmp_path / "p") == 1
    out = capsys.readouterr().out
    assert "both over 1 of 2 utterances" in out
    assert "1 failed" in out


def test_data_without_any_audio_are_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.joinpath("d").mkdir()
    data = manifest(tmp_path / "d", [{"id": n, "audio_filepath": f"{n}.wav"} for n in "ab"])
    assert run(model, data, tmp_path / "p") == 2
    assert "none of the 2 audio files exists" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.slow
def test_sigterm_ends_after_the_batch_in_hand(model: Path, tmp_path: Path) -> None:
    """Exit status 143, one sentence, whole lines in the shard, and the same command goes on from there."""
    entries = []
    for i in range(200):
        noise(tmp_path / "d" / f"{i}.wav", 0.5 + 0.01 * (i % 10), seed=i)
        entries.append({"id": f"u{i}", "audio_filepath": f"{i}.wav", "duration": 0.5 + 0.01 * (i % 10)})
    data = manifest(tmp_path / "d", entries)
    asked = command(model, data, tmp_path / "p", "--batch_size", "1")
    process = subprocess.Popen(asked, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    shard = tmp_path / "p" / "shards" / "rank0.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (shard.is_file() and shard.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert shard.read_bytes().endswith(b"\n")
    assert 0 < shard.read_bytes().count(b"\n") < 200
    assert subprocess.run(asked, env=environment(), capture_output=True, timeout=240).returncode == 0
    assert len(lines(tmp_path / "p")) == 200


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_devices_change_nothing(devices: int, model: Path, data: Path, tmp_path: Path, one_thread: None) -> None:
    """Every utterance exactly once, the same bytes whatever the number of processes (timing aside)."""
    predict(str(model), str(data), PAR(threshold=0.999), tmp_path / "one", batch_size=1)
    more = ["--trainer.devices", str(devices), "--trainer.accelerator", "cpu", "--batch_size", "1"]
    subprocess.run(command(model, data, tmp_path / "many", *more), check=True, env=environment(), timeout=240)
    assert timeless(tmp_path / "many") == timeless(tmp_path / "one")
    speed = json.loads((tmp_path / "many" / "metrics.json").read_text())["speed"]
    assert speed["num_devices"] == devices
    assert sum(d["utterances"] for d in speed["devices"]) == len(SENTENCES)


@pytest.mark.slow
def test_more_devices_than_utterances(model: Path, data: Path, tmp_path: Path) -> None:
    more = ["--trainer.devices", "2", "--trainer.accelerator", "cpu", "--limit", "1"]
    subprocess.run(command(model, data, tmp_path / "many", *more), check=True, env=environment(), timeout=240)
    assert len(lines(tmp_path / "many")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("PARLAB_KILLS", "1"))))
def test_killed_at_a_random_moment(seed: int, model: Path, data: Path, tmp_path: Path) -> None:
    """SIGKILL while it decodes; the second start with the same command gives the result of an unbroken run."""
    predict(str(model), str(data), PAR(threshold=0.999), tmp_path / "whole", batch_size=1)
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(model, data, out, "--batch_size", "1"),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    shard = out / "shards" / "rank0.jsonl"
    rng = random.Random(seed)
    wanted = rng.randint(0, 3)  # lines that are written before the kill; 0: perhaps before anything is
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if shard.is_file() and shard.read_bytes().count(b"\n") >= wanted:
            break
        time.sleep(0.002)
    time.sleep(rng.random() * 0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(model, data, out, "--decoder", "par", "--decoder.threshold", "0.999", "--batch_size", "1") == 0
    assert timeless(out) == timeless(tmp_path / "whole")


def test_offline_run_is_read_back(model: Path, data: Path, tmp_path: Path, wandb_records: Any) -> None:
    """W&B offline: the summary and the table of utterances are in the run's file."""
    out = tmp_path / "p"
    base = ["predict", "--model", str(model), "--data", str(data), "--out", str(out), "--progress", "false"]
    assert main([*base, "--decoder", "par", "--decoder.threshold", "0.999", "--wandb", "offline"]) == 0
    (path,) = out.glob("wandb/offline-run-*/*.wandb")
    summary: dict[str, Any] = {}
    for record in wandb_records(path):
        for item in (*record.summary.update, *record.history.item):
            summary[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    metrics = json.loads((out / "metrics.json").read_text())
    assert summary["wer/rate"] == pytest.approx(metrics["wer"]["rate"])
    assert summary["speed/rtfx"] == pytest.approx(metrics["speed"]["rtfx"])
    share = metrics["speed"]["search_seconds"] / metrics["speed"]["audio_seconds"]
    assert summary["speed/search_seconds_per_audio_second"] == pytest.approx(share)
    assert summary["par/masked_tokens"] == metrics["par"]["masked_tokens"]
    assert any("utterances" in key for key in summary)
    table = json.loads(next(out.glob("wandb/offline-run-*/files/media/table/utterances*.json")).read_text())
    assert table["columns"][:3] == ["id", "reference", "hypothesis"]
    assert len(table["data"]) == len(SENTENCES)
    assert any("->" in row[2] for row in table["data"])


def test_python_contract(model: Path, data: Path) -> None:
    """``parlab.load`` and ``transcribe``: input order, arrays, decoders by name."""
    asr = parlab.load(model)
    files = [data.parent / f"u{i}.wav" for i in (5, 0, 3)]
    found = asr.transcribe(files, decoder="par", threshold=0.999, max_mask_parallel=10)
    assert [h.id for h in found] == ["u5", "u0", "u3"]
    assert found[0].text == asr.tokenizer.decode(found[0].tokens)
    assert len(found[0].token_confidence) == len(found[0].tokens)
    assert any(h.segments for h in found)
    samples, rate = soundfile.read(files[1])
    assert asr.transcribe((samples, rate), decoder="par", threshold=0.999)[0].tokens == found[1].tokens
    with pytest.raises(UserError, match="did you mean 'greedy'"):
        asr.transcribe(files, decoder="gredy")
