"""Text and writing beside the decoding, and the profile of the host's time."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.commands.predict import module as predict_module
from parlab.commands.predict.profile import NetworkClock
from parlab.decode import PAR, Greedy
from parlab.errors import UserError
from parlab.predictions.shards import ShardWriter
from parlab.recognition.recognizer import Recognizer
from tests.helpers import predict, timeless
from tests.models import encoded, tiny_model


def test_the_profile_divides_the_time(model: Path, data: Path, tmp_path: Path) -> None:
    metrics = predict(model, data, PAR(threshold=0.999), tmp_path / "p", batch_size=2, profile=True)
    assert metrics is not None
    found = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert found["utterances"] == metrics.utterances - 2  # the first batch warms up
    assert found["batches"] == (metrics.utterances + 1) // 2 - 1
    assert all(found[name] > 0 for name in ("main_ms", "network_ms", "writer_ms", "load_ms"))
    predict(model, data, PAR(threshold=0.999), tmp_path / "q", batch_size=2)
    assert not (tmp_path / "q" / "profile.json").exists()
    assert timeless(tmp_path / "q") == timeless(tmp_path / "p")


def test_workers_change_nothing(model: Path, data: Path, tmp_path: Path) -> None:
    """Batches come in their order from two processes."""
    for workers in (0, 2):
        predict(model, data, PAR(threshold=0.999), tmp_path / str(workers), batch_size=2, workers=workers)
    shards = [(tmp_path / name / "shards" / "rank0.jsonl").read_text().splitlines() for name in ("0", "2")]
    assert [json.loads(line)["id"] for line in shards[0]] == [json.loads(line)["id"] for line in shards[1]]
    assert timeless(tmp_path / "0") == timeless(tmp_path / "2")


def test_one_batch_is_too_few_for_a_profile(model: Path, data: Path, tmp_path: Path) -> None:
    predict(model, data, Greedy(), tmp_path / "p", batch_size=100, profile=True)
    found = json.loads((tmp_path / "p" / "profile.json").read_text())
    assert (found["batches"], found["main_ms"]) == (0, None)


def test_the_clock_counts_the_network_alone() -> None:
    """Nested calls once; the methods are as before afterwards."""
    net = tiny_model(1)
    clock = NetworkClock()
    rows = net.rows
    batch = encoded(net, torch.randn(2, 20, 32), torch.tensor([20, 11]))
    before = rows.prefill
    with clock.watching(net):
        start = time.thread_time()
        sum(range(10**6))
        outside = time.thread_time() - start
        assert clock.seconds == 0
        start = time.thread_time()
        PAR(threshold=1.0).decode(net, batch)
        assert 0 < clock.seconds < time.thread_time() - start
    assert outside > 0 and rows.prefill == before and "encode" not in vars(net)
    counted = clock.seconds
    PAR(threshold=1.0).decode(net, batch)
    assert clock.seconds == counted


def test_text_is_made_in_another_thread(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    real = Recognizer.named

    def named(self: Any, *args: Any) -> Any:
        threads.add(threading.get_ident())
        return real(self, *args)

    monkeypatch.setattr(Recognizer, "named", named)
    predict(model, data, Greedy(), tmp_path / "p", batch_size=2)
    assert len(threads) == 1 and threads != {threading.get_ident()}


def test_what_cannot_be_written_ends_the_prediction(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where it is the last batch; what was written before is kept, and a restart does the rest."""
    whole = predict(model, data, Greedy(), tmp_path / "whole", batch_size=2)
    assert whole is not None
    real, calls = ShardWriter.append, []

    def append(self: Any, *batch: Any) -> None:
        calls.append(batch)
        if len(calls) == (whole.utterances + 1) // 2:
            raise UserError("the disk is full")
        real(self, *batch)

    monkeypatch.setattr(ShardWriter, "append", append)
    with pytest.raises(UserError, match="the disk is full"):
        predict(model, data, Greedy(), tmp_path / "p", batch_size=2)
    monkeypatch.setattr(ShardWriter, "append", real)
    written = (tmp_path / "p" / "shards" / "rank0.jsonl").read_bytes().count(b"\n")
    assert 0 < written < whole.utterances
    predict(model, data, Greedy(), tmp_path / "p", batch_size=2)
    assert timeless(tmp_path / "p") == timeless(tmp_path / "whole")


def test_sigterm_finds_all_that_was_decoded_on_the_disk(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the thread that writes is behind."""
    real = predict_module.write_batch

    def late(*args: Any) -> None:
        time.sleep(0.3)
        real(*args)

    decoded: list[str] = []

    def recognize_batch(*args: Any) -> Any:
        found = real_recognize(*args)
        decoded.extend(u.id for u in found.utterances)
        Stopped.received = len(decoded) >= 4
        return found

    real_recognize = predict_module.recognize_batch
    monkeypatch.setattr(predict_module, "write_batch", late)
    monkeypatch.setattr(predict_module, "recognize_batch", recognize_batch)
    monkeypatch.setattr(predict_module, "StopRequest", Stopped)
    Stopped.received = False
    with pytest.raises(SystemExit):
        predict(model, data, Greedy(), tmp_path / "p", batch_size=2)
    written = [json.loads(line)["id"] for line in (tmp_path / "p" / "shards" / "rank0.jsonl").read_bytes().splitlines()]
    assert written == decoded
    assert len(decoded) == 4


class Stopped:
    """A ``StopRequest`` whose signal is a field."""

    received = False

    def install(self) -> None: ...

    def restore(self) -> None: ...

    def check(self) -> None:
        if self.received:
            raise SystemExit(0)
