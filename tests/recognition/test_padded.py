"""One padded tensor a batch: the waveforms in it, and file descriptors between the worker processes and their parent."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.metrics.speed import Stopwatch
from parlab.recognition.batches import LoadedBatch
from parlab.recognition.padded import Ahead, PaddedWaves
from parlab.recognition.recognizer import Recognizer
from parlab.text.tokenizer import Tokenizer
from tests.helpers import environment, noise
from tests.models import tiny_model

WAVES = [torch.arange(1.0, n + 1) for n in (3, 5, 2)]


def test_waveforms_are_found_again() -> None:
    padded = PaddedWaves.of(WAVES)
    assert padded.samples.tolist()[2] == [1, 2, 0, 0, 0]
    for wave, found in zip(WAVES, padded, strict=True):
        torch.testing.assert_close(found, wave)
    assert PaddedWaves.of(padded) is padded


@pytest.mark.parametrize(("first", "last", "longest"), [(0, 1, 3), (1, 3, 5), (2, 3, 2), (0, 0, 0)])
def test_a_part_is_as_wide_as_its_longest(first: int, last: int, longest: int) -> None:
    part = PaddedWaves.of(WAVES)[first:last]
    assert part.samples.shape == (last - first, longest)
    for wave, found in zip(WAVES[first:last], part, strict=True):
        torch.testing.assert_close(found, wave)


def test_no_waveform_at_all() -> None:
    assert not PaddedWaves.of([])


def test_on_a_device() -> None:
    samples, lengths = PaddedWaves.of(WAVES).on(torch.device("meta"))
    assert samples.shape == (3, 5)
    assert lengths.device.type == "meta"


class Stream:
    """What a CUDA stream does, in the order in which it is asked."""

    def __init__(self, device: torch.device):
        self.device, self.asked = device, list[str]()

    def record_event(self) -> str:
        self.asked.append("record")
        return "event"

    def wait_event(self, event: str) -> None:
        self.asked.append(f"wait {event}")


def test_a_copy_that_was_ordered_ahead_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream that computes waits for the copy, and the memory is kept for it; nothing is copied a second time."""
    device = torch.device("meta")
    side, main, kept = Stream(device), Stream(device), []
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: main)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: kept.append((tensor.shape, stream)))
    waves = PaddedWaves.of(WAVES).copied_ahead(side)  # type: ignore[arg-type]
    assert (side.asked, main.asked) == (["record"], [])
    assert [wave.tolist() for wave in waves] == [wave.tolist() for wave in WAVES]
    samples, lengths = waves.on(device)
    assert waves.ahead is not None and samples is waves.ahead.samples and lengths is waves.ahead.lengths
    assert main.asked == ["wait event"]
    assert kept == [((3, 5), main), ((3,), main)]
    assert waves[:2].ahead is None  # a part of the batch, where the memory did not suffice, is copied anew
    assert waves.on(torch.device("cpu"))[0] is waves.samples


def test_elsewhere_batches_stay_as_they_are() -> None:
    loaded = LoadedBatch(PaddedWaves.of(WAVES), [], [], 0.0)
    loader = torch.utils.data.DataLoader([loaded], batch_size=None)  # type: ignore[arg-type]
    ahead = Ahead(loader, torch.device("cpu"))
    assert len(ahead) == 1
    assert list(ahead) == [loaded]


FEW_DESCRIPTORS = """
import resource, sys, torch
resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
from pathlib import Path
from parlab.data.utterance import Utterance
from parlab.recognition.batches import AudioBatches
batch = [Utterance(str(i), Path(sys.argv[1])) for i in range(64)]
loader = torch.utils.data.DataLoader(AudioBatches([batch] * 6, 16000, 2, None), batch_size=None, num_workers=2)
kept = [loaded.waves for loaded in loader]
print(sum(len(waves) for waves in kept))
"""


def test_workers_need_one_file_descriptor_a_batch(tmp_path: Path) -> None:
    """As ``--workers 8 --batch_size 128`` under ``ulimit -n 1024``, smaller: 2 workers, batches of 64, 96 descriptors."""
    command = [sys.executable, "-c", FEW_DESCRIPTORS, str(noise(tmp_path / "a.wav", 0.1))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(6 * 64)]


def test_padding_and_copies_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to the phase ``encode``."""
    net = tiny_model(0)
    recognizer = Recognizer(net, Tokenizer(net.token_list, "char"), torch.device("cpu"))
    for name, static in (("of", True), ("on", False)):
        monkeypatch.setattr(PaddedWaves, name, slow(getattr(PaddedWaves, name), static))
    watch = Stopwatch(recognizer.device)
    recognizer.encode([torch.zeros(8000), torch.zeros(9000)], watch)
    assert watch.seconds["encode"] > 0.4


def slow(function: Any, static: bool) -> Any:
    """``function`` after a fifth of a second."""

    def delayed(*args: Any) -> Any:
        time.sleep(0.2)
        return function(*args)

    return staticmethod(delayed) if static else delayed
