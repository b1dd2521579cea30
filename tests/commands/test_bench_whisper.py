"""Whisper beside transformers: the same tokens in the same run, from a folder and from random shapes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from parlab.cli import main
from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.planned import PlannedHead
from parlab.commands.bench.suite.whisper import whisper_cases
from parlab.commands.bench.whisper import WhisperBench
from parlab.decode import PAR, Greedy
from parlab.errors import UserError
from parlab.model.families.whisper_peer import SHAPES, WhisperShape, random_whisper
from parlab.recognition.recognizer import Recognizer
from tests.whisper import write_whisper

CPU = torch.device("cpu")
NARROW = WhisperShape(80, 32, 1, 2, 4)


def test_a_folder(tmp_path: Path) -> None:
    """Ours and transformers' searches write the same tokens, at batch 1 and batched."""
    write_whisper(tmp_path / "w", seed=5)
    options = ["--whisper", json.dumps([str(tmp_path / "w")]), "--batch", "3", "--repeats", "1"]
    assert main(["bench", *options, "--out", str(tmp_path / "b")]) == 0
    rows = json.loads((tmp_path / "b" / "bench.json").read_text())["rows"]
    names = ["encoder", "transformers: greedy", "transformers: beam 5", "ours: ar greedy", "ours: ar beam 5"]
    assert [row["what"].partition(": ")[2] for row in rows] == names * 2
    ours = [row for row in rows if ": ar " in row["what"]]
    assert [row["as_transformers"] for row in ours] == [1, 1, 3, 3]
    assert {row["tokens"] > 1 for row in ours} == {True}
    assert [row["ratio"] for row in rows if row["what"].endswith("transformers: greedy")] == [1.0, 1.0]


def test_a_random_shape() -> None:
    """As many tokens as are asked for, the same as transformers' from the same weights."""
    model, tokenizer = random_whisper(NARROW)
    assert model.vocab_size == len(tokenizer.token_list) == 51865
    assert model.prompt == (50258, 50259, 50359, 50363)
    bench = WhisperBench(Recognizer(model, tokenizer, CPU), [torch.randn(480000) * 0.1] * 2, 6, random=True)
    rows = {row.what: row for row in bench.rows(1)}
    assert {row.tokens for name, row in rows.items() if name != "encoder"} == {6}
    assert rows["ours: ar greedy"].as_transformers == rows["ours: ar beam 5"].as_transformers == 2


def test_a_random_shape_drafts_what_is_planned() -> None:
    """Two and a half words a second, one in five of them masked; PAR and speculative decoding are timed on them."""
    model, tokenizer = random_whisper(WhisperShape(80, 32, 2, 2, 4))
    head = PlannedHead.of(model, tokenizer)
    recognizer = Recognizer(model, tokenizer, CPU, head=head)
    waves = [torch.randn(16000 * 8, generator=torch.Generator().manual_seed(i)) * 0.1 for i in range(2)]
    encoded = recognizer.encode(waves)
    assert [len(h.tokens) for h in recognizer.decode(Greedy(), encoded)] == [20, 20]
    assert [len(h.segments) for h in recognizer.decode(PAR(ctc_weight=0.0, beam_size=2), encoded)] == [4, 4]
    rows = {row.what: row for row in WhisperBench(recognizer, waves, 20, random=True).rows(1)}
    assert rows["ours: draft"].tokens == 20
    assert rows["ours: speculative"].tokens == 20
    assert {"ours: par", "ours: par, left to right"} <= rows.keys()


def test_shapes_are_the_published_ones() -> None:
    """Parameters in millions (Radford et al. 2022, and the cards of large-v3 and its turbo), counted without memory."""
    millions = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "large-v3": 1550, "large-v3-turbo": 809}
    for name, shape in SHAPES.items():
        d, encoder, decoder = shape.width, shape.encoder_layers, shape.decoder_layers
        layers = encoder * 12 * d * d + decoder * 16 * d * d
        found = layers + (51766 + shape.languages + 448 + 1500) * d + 3 * (shape.bands + d) * d
        assert found / 1e6 == pytest.approx(millions[name], rel=0.04)


def test_faster_whisper_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package: what it is given, and that each of its segments counts."""
    given: list[dict[str, Any]] = []

    class Model:
        def __init__(self, folder: str, **options: Any) -> None:
            given.append({"folder": folder, **options})

        def transcribe(self, wave: Any, **options: Any) -> Any:
            given.append({"samples": len(wave), **options})
            return iter([SimpleNamespace(tokens=[5, 6]), SimpleNamespace(tokens=[7])]), None

    module = ModuleType("faster_whisper")
    module.WhisperModel = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    monkeypatch.setattr("parlab.model.families.whisper_peer.find_spec", lambda name: name)
    bench = WhisperBench(Recognizer(*random_whisper(NARROW), CPU), [torch.zeros(400)], 3, True, "ct2")
    tasks = dict(bench._faster())
    assert list(tasks) == ["faster-whisper: greedy", "faster-whisper: beam 5"]
    assert tasks["faster-whisper: beam 5"]() == [(5, 6, 7)]
    assert given[0] == {
        "folder": "ct2",
        "device": "cpu",
        "compute_type": "float32",
        "cpu_threads": torch.get_num_threads(),
    }
    assert given[1]["beam_size"] == 5 and given[1]["samples"] == 400 and given[1]["temperature"] == 0.0


def test_a_gpu_gets_all_shapes() -> None:
    options = BenchOptions(suite="all")
    assert {case.about["model"] for case in whisper_cases(options, torch.device("cuda"))} == set(SHAPES)
    assert not list(whisper_cases(options, CPU))


def test_wrong_names() -> None:
    with pytest.raises(UserError, match="did you mean 'large-v3-turbo'"):
        BenchOptions(whisper=["large-v3-turb"])
    bench = WhisperBench(Recognizer(*random_whisper(NARROW), CPU), [], 3, True, "ct2")
    with pytest.raises(UserError, match="faster-whisper is not installed"):
        list(bench._faster())
