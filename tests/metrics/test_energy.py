"""Energy by a made-up NVML: the counter's difference, in joules, of the right card; None where a card has none."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.commands.predict.command import print_metrics
from parlab.commands.predict.run import _per_hour
from parlab.metrics import energy
from parlab.metrics.energy import EnergyMeter
from parlab.predictions.metrics import Metrics, Named, Speed, read_metrics, write_metrics

UUID = "7f3c2a10-0000-1111-2222-333344445555"


class FakeNvml:
    """Two cards with a counter each, in mJ; ``broken`` names the call that fails."""

    def __init__(self, broken: str = "") -> None:
        self.broken = broken
        self.cards = [b"GPU-another", b"GPU-" + UUID.encode()]
        self.counters = [5, 1_000_000]

    def nvmlInit_v2(self) -> int:
        return int(self.broken == "init")

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        if uuid not in self.cards:
            return 6  # not found
        handle._obj.value = 1 + self.cards.index(uuid)  # no handle is null
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, energy: Any) -> int:
        energy._obj.value = self.counters[handle.value - 1]
        return 3 if self.broken == "energy" else 0  # not supported


def fake(monkeypatch: pytest.MonkeyPatch, library: FakeNvml, uuid: str = UUID) -> list[int]:
    """Put ``library`` in NVML's place; returns the list of waits for the device."""
    waits: list[int] = []
    energy._library.cache_clear()
    monkeypatch.setattr(energy.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(energy, "synchronize", lambda device: waits.append(1))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid=uuid))
    monkeypatch.setattr(energy, "_library", energy._library.__wrapped__)
    return waits


@pytest.mark.parametrize("prefix", ["", "GPU-"])
def test_joules_are_the_difference_of_the_cards_own_counter(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml()
    waits = fake(monkeypatch, library, prefix + UUID)
    meter = EnergyMeter(torch.device("cuda", 0))
    assert meter.joules() is None  # not started
    meter.start()
    library.counters = [900_000, 1_002_500]
    assert meter.joules() == 2.5
    assert len(waits) == 3  # the device's work is done at each reading


@pytest.mark.parametrize("broken", ["init", "energy"])
def test_a_card_without_a_counter_has_no_energy(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, FakeNvml(broken))
    meter = EnergyMeter(torch.device("cuda", 0))
    meter.start()
    assert meter.joules() is None


def test_an_unknown_card_and_a_cpu_have_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, FakeNvml(), "MIG-part")
    for device in (torch.device("cuda", 0), torch.device("cpu")):
        meter = EnergyMeter(device)
        meter.start()
        assert meter.joules() is None


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "LIBRARIES", ("libno-such-library.so",))
    assert energy._library.__wrapped__() is None


def test_energy_of_an_hour_of_audio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all devices; left out where one of them does not report it."""
    assert _per_hour(50.0, 1800.0) == 100.0
    assert _per_hour(float("nan"), 1800.0) is None and _per_hour(50.0, 0.0) is None and _per_hour(0.0, 9.0) is None
    speed = Speed(rtfx=2.0, search_seconds=1.0, audio_seconds=9.0, joules_per_audio_hour=1234.4)
    write_metrics(tmp_path, Metrics(Named("par"), speed=speed))
    found = read_metrics(tmp_path).speed
    assert found is not None and found.joules_per_audio_hour == 1234.4
    assert found.environment.joules_per_audio_hour == 1234.4  # a call that finds nothing to do keeps it
    print_metrics(read_metrics(tmp_path), "out")
    assert "| 1234 J per hour of audio\n" in capsys.readouterr().out
    assert "joules_per_audio_hour" not in Speed(rtfx=2.0).to_json()
