"""One model in several threads gives what it gives in one."""

from __future__ import annotations

import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import parlab
from parlab.model.folder import write_model
from parlab.text.tokenizer import Tokenizer
from tests.models import s2t_model, s2t_tokenizer, tiny_model
from tests.whisper import write_whisper

THREADS = 4


def tones(count: int) -> list[tuple[np.ndarray, int]]:
    """Tones of 0.3 to 1.6 s, of different lengths."""
    found = []
    for i in range(count):
        steps = np.random.default_rng(i).uniform(0.01, 0.4, 4800 + 1600 * (i % 13) + 37 * i)
        found.append(((0.3 * np.sin(np.cumsum(steps))).astype(np.float32), 16000))
    return found


@pytest.mark.parametrize("encoder", ["conformer", "e_branchformer", "transformer"])
def test_transcribe_in_several_threads(encoder: str, tmp_path: Path) -> None:
    net = tiny_model(4, sharpness=8.0, encoder=encoder)
    asr = parlab.load(write_model(net, Tokenizer(net.token_list, "char"), tmp_path / "m"), device="cpu")
    audio = tones(40)
    alone = [asr.transcribe(pair, threshold=0.6)[0].tokens for pair in audio]
    fresh = parlab.load(tmp_path / "m", device="cpu")  # its rows are made while the threads run
    with ThreadPoolExecutor(THREADS) as pool:
        side_by_side = list(pool.map(lambda pair: fresh.transcribe(pair, threshold=0.6)[0].tokens, audio * 2))
    assert side_by_side == alone * 2


def test_owsm_ctc_in_several_threads(tmp_path: Path) -> None:
    model = s2t_model(s2t_tokenizer(tmp_path), "s2t_ctc")
    waves = [torch.from_numpy(samples) for samples, _ in tones(24)]

    def encode(wave: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model.encode(wave[None], torch.tensor([len(wave)]))[0]

    alone = [encode(wave) for wave in waves]
    with ThreadPoolExecutor(THREADS) as pool:
        assert all(torch.equal(a, b) for a, b in zip(alone, pool.map(encode, waves), strict=True))


def test_position_tables_never_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that makes a short table does not take away the long one of another."""
    rows = tiny_model(0).rows
    positions = rows.spec.positions.encoding

    def extend(x: torch.Tensor) -> None:
        """ESPnet's order of steps, as slow as would be worst."""
        size = x.size(1)
        if positions.pe.size(1) >= size:
            return
        time.sleep(0.05 if size < 100 else 0.0)
        positions.pe = torch.zeros(1, size, 32)
        time.sleep(0.1 if size >= 100 else 0.0)

    monkeypatch.setattr(positions, "extend_pe", extend)
    positions.pe = torch.zeros(1, 10, 32)
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda n: rows._embed(torch.full((1, n), 3), torch.arange(n), n).size(1), [50, 400])
        assert list(found) == [50, 400]


def test_copies_have_their_own_lock() -> None:
    model = tiny_model(0)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.one_thread is not model.one_thread
        with model.one_thread:
            assert other.encode(torch.randn(1, 8000), torch.tensor([8000]))[0].isfinite().all()


def test_whisper_in_several_threads(tmp_path: Path) -> None:
    write_whisper(tmp_path, seed=5)
    asr = parlab.load(tmp_path, device="cpu")
    audio = [(samples[:16000], rate) for samples, rate in tones(12)]
    alone = [asr.transcribe(pair, beam_size=3)[0].tokens for pair in audio]
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(lambda pair: asr.transcribe(pair, beam_size=3)[0].tokens, audio * 2)) == alone * 2
