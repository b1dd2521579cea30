"""One of two processes of a prediction is killed: the job ends, and the same command goes on from there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from parlab.decode import PAR
from tests.helpers import command, environment, manifest, noise, predict, timeless

COUNT = 160  # utterances; enough that the kill comes in their midst
PATIENCE = 60.0  # seconds that the rest of the job gets to end by itself, before it is killed as a cluster would


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of ``COUNT`` utterances over eight files."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(8):
        noise(folder / f"u{i}.wav", 0.4 + 0.25 * i, seed=i)
    return manifest(
        folder, [{"id": f"n{i:03d}", "audio_filepath": f"u{i % 8}.wav", "text": "a bad cab"} for i in range(COUNT)]
    )


@pytest.fixture(scope="module")
def whole(model: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unbroken run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the two processes have; sums of floats depend on it
    out = tmp_path_factory.mktemp("whole") / "p"
    predict(str(model), str(many), PAR(threshold=0.999), out, batch_size=1)
    torch.set_num_threads(before)
    return out


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def child_of(pid: int) -> int:
    """The only process that a process started."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    (found,) = [int(line.split()[0]) for line in listed.splitlines() if int(line.split()[1]) == pid]
    return found


def flushed(out: Path) -> dict[str, list[bytes]]:
    """The whole lines of each shard."""
    return {shard.name: shard.read_bytes().split(b"\n")[:-1] for shard in sorted((out / "shards").glob("rank*.jsonl"))}


def ids(lines: dict[str, list[bytes]]) -> list[str]:
    return sorted(json.loads(line)["id"] for shard in lines.values() for line in shard)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("seed", range(int(os.environ.get("PARLAB_KILLS", "1"))))
def test_one_rank_is_killed(seed: int, victim: int, model: Path, many: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL of one rank at a random moment; what the shards hold then is kept as it stands, timings included."""
    out, rng = tmp_path / "p", random.Random(f"{seed} {victim}")
    asked = command(model, many, out, "--trainer.devices", "2", "--trainer.accelerator", "cpu", "--batch_size", "1")
    log = (tmp_path / "log").open("wb")
    first = subprocess.Popen(asked, env=environment(), stdout=log, stderr=subprocess.STDOUT)
    pids = [first.pid]
    try:
        wanted, deadline = rng.randint(1, COUNT // 3), time.monotonic() + 120
        while sum(map(len, flushed(out).values())) < wanted:
            assert first.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        pids.append(child_of(first.pid))
        os.kill(pids[victim], signal.SIGKILL)
        start = time.monotonic()
        while (first.poll() is None or alive(pids[1])) and time.monotonic() < start + PATIENCE:
            time.sleep(0.1)
        left = [pid for pid in pids if (first.poll() is None if pid == first.pid else alive(pid))]
        assert not left, (
            f"ranks {left} of {pids} still run {PATIENCE} s after the kill: {(tmp_path / 'log').read_text()}"
        )
    finally:
        for pid in pids:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        first.wait()
        log.close()
    assert first.returncode != 0
    assert not (out / "metrics.json").exists()  # half a result never looks like a whole one
    kept = flushed(out)
    assert 0 < len(ids(kept)) < COUNT, "the kill came too late to prove anything"

    subprocess.run(asked, env=environment(), check=True, timeout=240)
    assert timeless(out) == timeless(whole)
    now = flushed(out)
    assert all(set(lines) <= set(now[name]) for name, lines in kept.items())
    assert ids(now) == sorted(f"n{i:03d}" for i in range(COUNT))  # each once: nothing was computed again
