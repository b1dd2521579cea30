"""One padded tensor a batch: the waveforms in it, and file descriptors between the worker processes and their parent."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.metrics.speed import Stopwatch
from parlab.recognition.padded import PaddedWaves
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
