"""The suite of figures of a device: dry runs on the CPU, its time, its files, what CUDA tells."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from parlab.cli import main
from parlab.commands.bench.options import PARTS, BenchOptions
from parlab.commands.bench.sizes import SIZES, random_recognizer
from parlab.commands.bench.suite import observe
from parlab.commands.bench.suite import run as run_module
from parlab.commands.bench.suite.correctness import some_speech
from parlab.commands.bench.suite.observe import host_syncs, kernel_profile
from parlab.commands.bench.suite.plan import Budget, Measurement, by_interest, speed_cases
from parlab.commands.bench.suite.run import run_suite
from parlab.commands.bench.suite.whisper import cells
from parlab.commands.bench.whisper import WhisperBench
from parlab.errors import UserError
from tests.whisper import write_whisper

CPU = torch.device("cpu")
TINY: dict[str, Any] = {"sizes": ["tiny"], "batches": [1, 2], "seconds": [1.0], "precisions": ["32-true"], "repeats": 1}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "suite.json").read_text())["rows"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dry run of all parts."""
    out = tmp_path_factory.mktemp("suite")
    write_whisper(out / "whisper", seed=5)
    options = [f"--{name}={json.dumps(value)}" for name, value in {**TINY, "whisper": [str(out / "whisper")]}.items()]
    command = ["bench", "--suite", "all", "--device", "cpu", *options, "--utterances", "2", "--minutes", "5"]
    assert main([*command, "--out", str(out)]) == 0
    return out


def test_every_part_has_its_figures(suite: Path) -> None:
    rows = rows_of(suite)
    assert list(dict.fromkeys(row["part"] for row in rows)) == list(PARTS)
    assert not any({"error", "skipped"} & set(row) for row in rows)
    for row in rows:
        if row["part"] == "correctness":  # the device is the CPU: the same computation
            assert row["as_on_cpu"] == row["repeated"] == row["alone"] == row["utterances"] == 2
            assert row["largest_score_difference"] == 0
        if row["part"] == "speed":
            assert row["par_ratio"] == pytest.approx(row["par_ms"] / row["greedy_ms"])
            assert row["par_rtfx"] == pytest.approx(1000 * row["batch"] * row["seconds"] / row["par_ms"])
            others = ("par", "par_joint", "ar", "speculative")
            assert all(row[f"{name}_ratio"] > 0 for name in others)
            assert min(row[f"{name}_peak_bytes"] for name in others) >= row["greedy_peak_bytes"] > 0
            assert "par_syncs" not in row  # only CUDA counts them
        if row["part"] == "whisper":
            beams = ("greedy", "beam_5")
            assert [row[f"ours_ar_{beam}_as_transformers"] for beam in beams] == [row["batch"]] * 2
            assert all(row[f"{what}_rtfx"] > 0 for what in ("encoder", "transformers_greedy", "ours_ar_beam_5"))
            assert row["ours_ar_beam_5_peak_bytes"] >= row["ours_ar_greedy_peak_bytes"] > 0
            assert not any(name.startswith("transformers") and name.endswith("bytes") for name in row)
        if row["part"] == "kernels":
            assert row["launches"] > 100 and row["device_ms"] > 0
    speed = [row for row in rows if row["part"] == "speed"]
    assert [(row["size"], row["batch"]) for row in speed] == [("tiny", 1), ("tiny", 2)]


def test_its_files(suite: Path) -> None:
    content = json.loads((suite / "suite.json").read_text())
    assert content["options"]["sizes"] == ["tiny"]
    assert content["machine"]["threads"] >= 1 and content["versions"]["torch"] == torch.__version__
    text = (suite / "suite.md").read_text()
    assert all(f"## {part}" in text for part in PARTS)
    assert len((suite / "suite.csv").read_text().splitlines()) == 1 + len(content["rows"])
    assert "aten::" in (suite / "profile_par.txt").read_text()


def measured(monkeypatch: pytest.MonkeyPatch, *cases: Measurement) -> None:
    """Let the suite consist of ``cases``."""

    def given(*_: Any) -> Iterator[Measurement]:
        yield from cases

    monkeypatch.setattr(run_module, "measurements", given)


def test_a_case_that_fails_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    good = Measurement({"part": "speed", "what": "good"}, lambda: {"ms": 1.0})
    measured(monkeypatch, Measurement({"part": "speed", "what": "bad"}, fails), good)
    assert run_suite(BenchOptions(suite="speed", out=str(tmp_path)), CPU) == 1
    bad, other = rows_of(tmp_path)
    assert bad["error"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB."
    assert other == {"part": "speed", "what": "good", "ms": 1.0}


def test_what_was_measured_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end in the middle of a case, as by SIGINT, loses that case alone."""

    def stopped() -> Any:
        raise KeyboardInterrupt

    good = Measurement({"part": "speed", "what": "good"}, lambda: {"ms": 1.0})
    measured(monkeypatch, good, Measurement({"part": "speed", "what": "cut"}, stopped))
    with pytest.raises(KeyboardInterrupt):
        run_suite(BenchOptions(suite="speed", out=str(tmp_path)), CPU)
    assert [row["what"] for row in rows_of(tmp_path)] == ["good"]


def test_no_case_starts_that_would_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A case of 8 utterances takes eight times as long as its sister of one; one of another family is tried."""
    now = [0.0]

    def takes(seconds: float) -> Any:
        def run() -> Any:
            now[0] += seconds
            return {"ms": 1000 * seconds}

        return run

    monkeypatch.setattr(run_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(run_module, "Budget", lambda seconds: Budget(seconds, lambda: now[0]))
    cases = [("a", 1, 10.0), ("a", 8, 80.0), ("b", 1, 45.0), ("b", 1, 45.0), ("b", 1, 1.0), ("c", 1, 1.0)]
    measured(
        monkeypatch,
        *(Measurement({"part": "speed", "i": i}, takes(s), n, f) for i, (f, n, s) in enumerate(cases)),
    )
    assert run_suite(BenchOptions(suite="speed", minutes=1, out=str(tmp_path)), CPU) == 0
    assert [row.get("skipped", "ran") for row in rows_of(tmp_path)] == [
        "ran",
        "50 s left",
        "ran",
        "5 s left",
        "5 s left",
        "ran",
    ]


def test_the_most_telling_batches_come_first() -> None:
    assert by_interest([1, 8, 32, 128]) == [8, 32, 1, 128]
    assert by_interest([4]) == [4]
    cases = list(speed_cases(BenchOptions(suite="all")))
    assert {case.batch for case in cases} == {1, 8, 32, 128}
    assert {case.size for case in cases} >= {"librispeech256", "librispeech512", "owsm_medium", "whisper_turbo"}
    assert {case.seconds for case in cases if case.size.startswith("whisper")} == {30.0}


def test_whispers_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty states a second, as Whisper's encoder makes; narrow here, to be quick."""
    vocabulary, config = SIZES["whisper_base"]
    assert vocabulary == 51865 and config["encoder_conf"]["num_blocks"] == 6
    conf = {"output_size": 32, "attention_heads": 2, "linear_units": 64, "num_blocks": 1, "input_layer": "conv2d2"}
    monkeypatch.setitem(SIZES, "narrow", (50, {**config, "encoder_conf": conf}))
    asr = random_recognizer("narrow", CPU)
    assert asr.model.frame_seconds == pytest.approx(0.02)
    assert asr.encode([torch.zeros(16000)]).frames.item() == pytest.approx(50, abs=2)


def test_host_syncs_are_counted_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def task() -> None:
        for _ in range(3):
            warnings.warn_explicit("called a synchronizing CUDA operation", UserWarning, "/x/parlab/decode/beam.py", 7)
        warnings.warn_explicit("something else", UserWarning, "/x/parlab/decode/beam.py", 8)

    assert host_syncs(task, torch.device("cuda")) == {"decode/beam.py:7": 3}
    assert modes == ["warn", 0]
    assert host_syncs(task, CPU) is None


def test_memory_and_syncs_of_a_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak of one run and the syncs of another, busiest lines first."""

    def host_syncs(task: Any, device: torch.device) -> Counter[str]:
        task()
        return Counter({"a.py:1": 1, "b.py:2": 3})

    monkeypatch.setattr(observe, "host_syncs", host_syncs)
    runs: list[Tensor] = []
    found = observe.memory_and_syncs("ar", lambda: runs.append(torch.ones(1000)), CPU)
    assert found == {"ar_peak_bytes": 4000, "ar_syncs": 4, "ar_sync_lines": "b.py:2 x3; a.py:1 x1"}
    assert len(runs) == 2


def test_only_our_decoders_of_whisper_have_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with a draft head among them; each decodes the batch again, in inference mode."""
    bench = WhisperBench(random_recognizer("tiny", CPU), [torch.zeros(9)], longest=3, random=True)
    names = ("encoder", "transformers: greedy", "ours: ar greedy", "ours: draft", "ours: par, left to right")
    grown: list[str] = []

    def tasks(_: WhisperBench) -> Iterator[tuple[str, Any]]:
        for name in names:
            yield name, lambda name=name: grown.append(name) if torch.ones(50).is_inference() else None

    monkeypatch.setattr(WhisperBench, "rows", lambda self, repeats: [])
    monkeypatch.setattr(WhisperBench, "tasks", tasks)
    row = cells(bench, repeats=1)
    ours = ("ours_ar_greedy", "ours_draft", "ours_par,_left_to_right")
    assert row == {"tokens": 3, "repeats": 1, **{f"{name}_peak_bytes": 200 for name in ours}}
    assert {name.replace(": ", "_").replace(" ", "_") for name in grown} == set(ours)


def test_a_kernel_profile() -> None:
    a = torch.randn(64, 64)
    found = kernel_profile(lambda: [a @ a for _ in range(5)], CPU)
    assert ("aten::mm", 5) in [(name, count) for name, count, _ in found.top]
    assert found.milliseconds > 0


def test_noise_where_nothing_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> Any:
        raise UserError("eSpeak NG cannot be loaded")

    monkeypatch.setattr("parlab.commands.bench.suite.correctness.speak", silent)
    speech = some_speech(BenchOptions(utterances=3), 16000)
    assert (len(speech.waves), speech.texts, speech.source) == (3, None, "noise")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("suite", "sped", "did you mean 'speed'"),
        ("sizes", ["librispeech265"], "did you mean 'librispeech256'"),
        ("precisions", ["bf16"], "did you mean 'bf16-true'"),
        ("batches", [0], "expected at least one of each"),
        ("minutes", 0, "expected more than 0"),
    ],
)
def test_wrong_options(option: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        BenchOptions(**{option: value})
