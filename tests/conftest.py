"""What all tests share: the real speech, tiny models, a corpus of noise, a training of a second."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from hypothesis import settings

from parlab.model.folder import write_model
from parlab.text.tokenizer import Tokenizer
from tests.helpers import SENTENCES, manifest, noise
from tests.models import tiny_model, tiny_network

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("parlab", deadline=None)  # no test asserts speed
settings.load_profile("parlab")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real speech beside the repository; skips where it is absent, unless CI requires it."""
    if not SHARED.exists():
        if os.environ.get("PARLAB_REQUIRE_SHARED"):
            pytest.fail(f"the real speech in {SHARED} is absent")
        pytest.skip(f"no real speech: {SHARED} does not exist")
    return SHARED


@pytest.fixture(scope="session")
def whisper_folder(shared_data: Path) -> Path:
    """The real weights of Whisper tiny.en beside the real speech."""
    folder = shared_data.parent / "models" / "whisper-tiny.en"
    if not folder.exists():
        pytest.skip(f"no real weights: {folder} does not exist")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads here as a process of several devices has: sums of floats depend on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that uses the real speech gets the marker ``shared`` (``pytest -m shared``)."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared)


WORDS = ["YES", "NO", "ONE", "TWO", "STOP", "GO"]


def write_corpus(folder: Path, count: int, seed: int = 0) -> Path:
    """``count`` utterances of noise of 0.6 to 1.4 s with one to three words, and their manifest."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = []
    for i in range(count):
        samples = int(16000 * rng.uniform(0.6, 1.4))
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(samples), 16000)
        text = " ".join(rng.choice(WORDS, size=rng.integers(1, 4)))
        entry = {"id": f"u{seed}-{i}", "audio_filepath": f"{i}.wav", "text": text, "duration": samples / 16000}
        lines.append(json.dumps(entry))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "data.jsonl"


@pytest.fixture
def network() -> dict[str, Any]:
    """``tiny_network`` as a fixture."""
    return tiny_network()


@pytest.fixture(scope="session")
def noise_corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Manifests of training (44 utterances) and development (6) noise."""
    folder = tmp_path_factory.mktemp("noise")
    return write_corpus(folder / "train", 44, 1), write_corpus(folder / "dev", 6, 2)


@pytest.fixture
def fit_config(noise_corpus: tuple[Path, Path], tmp_path: Path) -> Path:
    """A file for ``fit``: 7 steps an epoch, run folder ``tmp_path/run``."""
    train, dev = noise_corpus
    config = {
        "model": {
            "tokenizer": {"token_type": "char"},
            "network": tiny_network(),
            "optim": {"lr": 1e-3, "warmup_steps": 3},
        },
        "data": {
            "train": str(train),
            "dev": str(dev),
            "batch_seconds": 10.0,
            "augmentation": {"speeds": [0.9, 1.0, 1.1], "gain_db": 3.0},
        },
        "wandb": "off",
        "trainer": {
            "default_root_dir": str(tmp_path / "run"),
            "accelerator": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
        },
    }
    path = tmp_path / "fit.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that says something: its CTC head is not all blank."""
    net = tiny_model(4, sharpness=8.0)
    return write_model(net, Tokenizer(net.token_list, "char"), tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    entries = []
    for i, text in enumerate(SENTENCES):
        seconds = 0.4 + 0.25 * i
        noise(folder / f"u{i}.wav", seconds, seed=i)
        entries.append(
            {"id": f"u{i}", "audio_filepath": f"u{i}.wav", "duration": seconds, "text": text, "speaker": f"s{i % 2}"}
        )
    return manifest(folder, entries)


def read_wandb(path: Path) -> list[Any]:
    """Records of an offline W&B run that has ended; its writer may close the file a moment after the run."""
    from google.protobuf.message import DecodeError

    deadline = time.monotonic() + 20
    while True:
        try:
            records = parse_wandb(path.read_bytes())
            if records and records[-1].HasField("exit"):
                return records
        except DecodeError:
            pass  # a record that is half written
        assert time.monotonic() < deadline, f"{path} is not complete"
        time.sleep(0.1)


def parse_wandb(data: bytes) -> list[Any]:
    """Protocol buffers in LevelDB's log format (blocks of 32 KiB)."""
    from wandb.proto import wandb_internal_pb2

    offset, parts, records = 7, b"", []
    while offset + 7 <= len(data):
        if 32768 - offset % 32768 < 7:  # the rest of a block is padding
            offset += 32768 - offset % 32768
            continue
        length, kind = int.from_bytes(data[offset + 4 : offset + 6], "little"), data[offset + 6]
        parts += data[offset + 7 : offset + 7 + length]
        offset += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return records


@pytest.fixture
def wandb_records() -> Callable[[Path], list[Any]]:
    """``read_wandb`` as a fixture."""
    return read_wandb


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    """A W&B run that a test leaves open would swallow what later tests log."""
    yield
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.run.finish()
        pytest.fail("a W&B run was left open")
