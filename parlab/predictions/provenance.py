"""Where a result comes from: versions, hashes, devices."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

import parlab
from parlab.data.utterance import Utterance
from parlab.decode import Decoder
from parlab.predictions.metrics import Hashes, Named


@cache
def versions() -> dict[str, str | None]:
    """Versions of parlab (with its commit, where it runs from a checkout) and of what decides a result."""
    found: dict[str, str | None] = {
        "parlab": parlab.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
    }
    for name in ("torch", "espnet", "lightning", "transformers", "lhotse", "sentencepiece", "kaldialign"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    found["cuda"] = torch.version.cuda
    return found


def _commit() -> str | None:
    folder = Path(parlab.__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def hash_data(utterances: Sequence[Utterance]) -> str:
    """SHA-256 of ids, references and file names (not folders: data may move), whatever their order."""
    digest = hashlib.sha256()
    for u in sorted(utterances, key=lambda u: u.id):
        digest.update(json.dumps([u.id, u.text, u.audio.name, u.start, u.duration]).encode())
    return digest.hexdigest()


def hashes_of(model_hash: str, utterances: Sequence[Utterance]) -> Hashes:
    """The hashes that a prediction records."""
    return Hashes(model_hash, hash_data(utterances))


def describe_decoder(decoder: Decoder) -> Named:
    """A decoder's name and all of its options."""
    return Named(decoder.name, dataclasses.asdict(decoder))  # type: ignore[call-overload]


def device_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"
