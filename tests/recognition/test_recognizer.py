"""The predict step and restarts: memory, parts of files, precision, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from parlab.commands.predict import run as predict_module
from parlab.data.utterance import Utterance
from parlab.decode import PAR, Greedy
from parlab.errors import UserError
from parlab.model.folder import write_model
from parlab.recognition.batches import AudioBatches
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from tests.helpers import environment, predict, timeless
from tests.models import tiny_model

COUNT = 24
SOME = PAR(threshold=0.6)  # masks some of the tokens of the random model, not all


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    net = tiny_model(4, sharpness=8.0)
    return str(write_model(net, Tokenizer(net.token_list, "char"), tmp_path_factory.mktemp("model") / "m"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Tones of 0.5 to 1.6 s; some durations occur several times."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for i in range(COUNT):
        samples = 8000 + 1600 * (i % 12)
        steps = np.random.default_rng(i).uniform(0.01, 0.4, samples)
        soundfile.write(folder / f"{i:02}.wav", 0.3 * np.sin(np.cumsum(steps)), 16000)
        lines.append(
            {"id": f"u{i:02}", "audio_filepath": f"{i:02}.wav", "duration": samples / 16000, "text": "a bad cab"}
        )
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder / "data.jsonl")


def failing_above(limit: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make batches of more than ``limit`` run out of memory; returns the sizes that were tried."""
    sizes: list[int] = []
    real = Recognizer.encode

    def encode(self: Any, waves: Any, *more: Any) -> Any:
        sizes.append(len(waves))
        if len(waves) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(self, waves, *more)

    monkeypatch.setattr(Recognizer, "encode", encode)
    return sizes


def test_too_little_memory_halves_the_batch(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict(model, data, SOME, tmp_path / "a", batch_size=8)
    sizes = failing_above(3, monkeypatch)
    predict(model, data, SOME, tmp_path / "b", batch_size=8)
    assert {8, 4, 2} <= set(sizes)
    tokens = [[(r["id"], r["tokens"], r["text"]) for r in timeless(tmp_path / name)] for name in "ab"]
    assert tokens[0] == tokens[1]


def test_what_fits_no_memory_costs_that_utterance_only(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Recognizer.encode

    def encode(self: Any, waves: Any, *more: Any) -> Any:
        if max(len(w) for w in waves) > 25000:  # two utterances of 1.6 s
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(self, waves, *more)

    monkeypatch.setattr(Recognizer, "encode", encode)
    metrics = predict(model, data, Greedy(), tmp_path / "p", batch_size=8)
    assert metrics is not None
    assert [f.id for f in metrics.failed] == ["u11", "u23"]
    assert "memory does not suffice for its 2 s" in metrics.failed[0].reason
    assert len(timeless(tmp_path / "p")) == COUNT - 2


def test_a_defect_is_no_lack_of_memory(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Recognizer, "encode", encode)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predict(model, data, Greedy(), tmp_path / "p")


def test_parts_of_a_recording(tmp_path: Path) -> None:
    """A part that starts at 0 is a part too (Kaldi's segments, Lhotse's cuts)."""
    rate = 16000
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * rate).astype(np.float32)
    soundfile.write(tmp_path / "r.wav", samples, rate, subtype="FLOAT")
    parts = [
        Utterance("a", tmp_path / "r.wav", duration=1.0),
        Utterance("b", tmp_path / "r.wav", duration=1.5, start=1.0),
    ]
    loaded = AudioBatches([parts], rate, 2, max_seconds=2.0)[0]
    assert loaded.failed == []
    np.testing.assert_array_equal(loaded.waves[0], samples[:rate])
    np.testing.assert_array_equal(loaded.waves[1], samples[rate : int(2.5 * rate)])


def test_audio_shorter_than_its_manifest_says(tmp_path: Path) -> None:
    """A wav cut in two has no other mark; a rounded duration is fine."""
    soundfile.write(tmp_path / "r.wav", np.zeros(32000), 16000)
    whole = (tmp_path / "r.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])
    parts = [
        Utterance("cut", tmp_path / "cut.wav", duration=2.0),
        Utterance("rounded", tmp_path / "r.wav", duration=2.4),
    ]
    loaded = AudioBatches([parts], 16000, 2, None)[0]
    assert [u.id for u in loaded.utterances] == ["rounded"]
    (failure,) = loaded.failed
    assert failure.id == "cut"
    assert "truncated" in failure.reason


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_precision_is_used_and_recorded(
    precision: str, model: str, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """bf16-mixed is for training; decoding converts the weights once, and says so."""
    full = predict(model, data, Greedy(), tmp_path / "full", limit=4)
    half = predict(model, data, Greedy(), tmp_path / "half", limit=4, precision=precision, device="cpu")
    assert full is not None
    assert half is not None
    assert half.speed is not None and full.speed is not None
    assert half.config["precision"] == half.speed.precision == "bf16-true"
    assert ("bf16-mixed is for training" in capsys.readouterr().err) == (precision == "bf16-mixed")
    assert full.speed.precision == "32-true"
    scores = [[r["score"] for r in timeless(tmp_path / name)] for name in ("full", "half")]
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], rel=0.2)  # the same computation in another precision
    assert half.hashes == full.hashes


def test_a_restart_repeats_whole_batches(model: str, data: str, tmp_path: Path) -> None:
    """Whatever line the shard ends with, the bytes are those of an unbroken run with the same batches."""
    predict(model, data, SOME, tmp_path / "whole", batch_size=5)
    wanted = timeless(tmp_path / "whole")
    assert sum(len(r["segments"]) for r in wanted) > 0
    shard = tmp_path / "whole" / "shards" / "rank0.jsonl"
    lines = shard.read_bytes().splitlines(keepends=True)
    for kept in (0, 3, 7, 19):
        out = tmp_path / str(kept)
        (out / "shards").mkdir(parents=True)
        (out / "identity.json").write_bytes((tmp_path / "whole" / "identity.json").read_bytes())
        (out / "shards" / "rank0.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:40])
        predict(model, data, SOME, out, batch_size=5)
        assert timeless(out) == wanted
        assert len(read_ids(out)) == COUNT


def read_ids(out: Path) -> list[str]:
    """Ids of all whole lines of the shards: nothing is decoded twice for good."""
    found = []
    for line in (out / "shards" / "rank0.jsonl").read_bytes().split(b"\n")[:-1]:
        try:
            found.append(json.loads(line)["id"])
        except ValueError:
            continue
    return found


def test_nothing_left_to_do_keeps_the_figures(model: str, data: str, tmp_path: Path) -> None:
    first = predict(model, data, SOME, tmp_path / "p", batch_size=5)
    again = predict(model, data, SOME, tmp_path / "p", batch_size=7)
    assert first is not None
    assert again is not None
    assert again.speed == first.speed


def test_a_lost_utterance_is_noticed(model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No metrics over a part of the data."""
    monkeypatch.setattr(predict_module, "prediction_batches", dropping(predict_module.prediction_batches))
    with pytest.raises(UserError, match="1 of 24 utterances were not decoded"):
        predict(model, data, Greedy(), tmp_path / "p")
    assert not (tmp_path / "p" / "metrics.json").exists()


def dropping(real: Any) -> Any:
    """``prediction_batches`` that loses the last utterance."""
    return lambda utterances, *rest: real(utterances[:-1], *rest)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"limit": -1}, "-1"),
        ({"wandb": "onlin"}, "did you mean 'online'"),
        ({"device": "cuda:99"}, "0 CUDA devices|CUDA devices are available"),
        ({"precision": "9"}, "do not fit this machine"),
    ],
)
def test_wrong_settings_are_told_before_the_work(
    wrong: dict[str, Any], message: str, model: str, data: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        predict(model, data, Greedy(), tmp_path / "p", **wrong)
    assert not (tmp_path / "p").exists()


def command(model: str, data: str, out: Path, *more: str) -> list[str]:
    base = [sys.executable, "-m", "parlab", "predict", "--model", model, "--data", data, "--out", str(out)]
    return [*base, "--decoder", "par", "--decoder.threshold", "0.6", "--wandb", "off", "--progress", "false", *more]


@pytest.mark.slow
def test_devices_share_batches_of_several(model: str, data: str, tmp_path: Path, one_thread: None) -> None:
    """The same bytes, scores included, with batches of 5 on two processes."""
    predict(model, data, SOME, tmp_path / "one", batch_size=5)
    more = ["--batch_size", "5", "--trainer.devices", "2", "--device", "cpu"]
    subprocess.run(command(model, data, tmp_path / "two", *more), check=True, env=environment(), timeout=240)
    assert timeless(tmp_path / "two") == timeless(tmp_path / "one")


@pytest.mark.slow
def test_torchrun_shares_the_work(model: str, data: str, tmp_path: Path, one_thread: None) -> None:
    """Without any option of the Trainer; the same bytes as one process."""
    predict(model, data, SOME, tmp_path / "one", batch_size=1)
    base = command(model, data, tmp_path / "two", "--batch_size", "1", "--device", "cpu")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *base[1:]]
    subprocess.run(torchrun, check=True, env=environment(), timeout=240)
    assert timeless(tmp_path / "two") == timeless(tmp_path / "one")
    wrong = subprocess.run(
        [*torchrun, "--trainer.devices", "3"], env=environment(), timeout=240, capture_output=True, text=True
    )
    assert wrong.returncode != 0
    assert "torchrun started 2 processes" in wrong.stderr


@pytest.mark.slow
def test_ctrl_c_ends_in_order(model: str, tmp_path: Path) -> None:
    """Exit status 130, one sentence, and the same command goes on from there."""
    lines = []
    for i in range(300):
        samples = 8000 + 160 * (i % 12)
        soundfile.write(tmp_path / f"{i}.wav", 0.3 * np.sin(np.arange(samples) * (0.01 + i / 1000)), 16000)
        lines.append(json.dumps({"id": f"u{i}", "audio_filepath": f"{i}.wav", "duration": samples / 16000}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines) + "\n")
    asked = command(
        model, str(tmp_path / "data.jsonl"), tmp_path / "p", "--batch_size", "1", "--decoder.threshold", "0.999"
    )
    with_sigint = partial(
        signal.signal, signal.SIGINT, signal.SIG_DFL
    )  # a shell that starts the tests with "&" has it ignored
    process = subprocess.Popen(
        asked, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=with_sigint
    )
    shard = tmp_path / "p" / "shards" / "rank0.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (shard.is_file() and shard.stat().st_size):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "interrupted" in told
    assert "Traceback" not in told
    done = shard.read_text().count("\n")
    assert 0 < done < 300
    assert subprocess.run(asked, env=environment(), capture_output=True, timeout=240).returncode == 0
    assert len(timeless(tmp_path / "p")) == 300


def test_the_encoder_is_compiled_on_demand(
    model: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the results of the encoder as it is; torch's real compiler would take a minute here."""
    compiled: list[Any] = []

    def compile(function: Any, **_: Any) -> Any:
        return lambda *args: compiled.append(len(args[0])) or function(*args)

    monkeypatch.setattr(torch, "compile", compile)
    predict(model, data, SOME, tmp_path / "plain")
    assert compiled == []
    predict(model, data, SOME, tmp_path / "compiled", compile=True)
    assert sum(compiled) >= COUNT
    assert timeless(tmp_path / "compiled") == timeless(tmp_path / "plain")
