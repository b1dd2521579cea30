"""Every family's front end and encoder read nothing back from their device, and make no tensor on another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from parlab.model.folder import read_model
from tests.families import dolphin_models, firered_models, speechbrain_models, wenet_models

META = torch.device("meta")  # its tensors have no values: whoever reads one, or mixes it with one of the CPU, fails
WRITERS: dict[str, tuple[Callable[[Path, str], object], list[str]]] = {
    "wenet": (wenet_models.write_wenet, list(wenet_models.CONFIGS)),
    "speechbrain": (speechbrain_models.write_speechbrain, list(speechbrain_models.SEEDS)),
    "firered": (firered_models.write_firered, list(firered_models.SEEDS)),
    "dolphin": (dolphin_models.write_dolphin, list(dolphin_models.SEEDS)),
}


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family, (_, names) in WRITERS.items() for name in names]
)
def test_encoding_reads_nothing_back(family: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: contextlib.nullcontext()
    )  # it does not know the meta device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)
    WRITERS[family][0](tmp_path / "model", name)
    model, _ = read_model(tmp_path / "model")
    speech, lengths = 0.1 * torch.randn(2, 16000), torch.tensor([16000, 9000])
    here, _ = model.encode(speech, lengths)
    model = model.to(META)
    states, frames = model.encode(speech.to(META), lengths.to(META))
    assert states.device == frames.device == META
    assert states.shape == here.shape
    if model.ctc is not None:
        assert model.ctc_log_probs(states).device == META
