"""``bench``: its baselines are what they say, its inputs have the masks they promise."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from parlab.cli import main
from parlab.commands.bench.baselines import espnet_ar, espnet_par
from parlab.commands.bench.cases import make_case
from parlab.commands.bench.sizes import random_recognizer, size_config
from parlab.decode import AR, PAR
from parlab.decode.draft import greedy_draft
from parlab.decode.masking import mask_below
from parlab.decode.segments import find_segments
from parlab.model.families.espnet_build import build_model
from tests.models import encoded, random_posteriors, tiny_model


@pytest.mark.parametrize(("seconds", "masks"), [(2.0, 1), (3.0, 4), (4.0, 7)])
def test_inputs_have_single_masks(seconds: float, masks: int) -> None:
    case = make_case(random_recognizer("tiny", torch.device("cpu")), seconds, masks, 2)
    draft = greedy_draft(case.encoded.posteriors, case.encoded.frames, 0)
    assert draft.lengths.tolist() == [case.tokens] * 2
    segments = find_segments(draft, mask_below(draft, 0.99))
    assert segments.owner.tolist() == [0] * masks + [1] * masks
    assert (segments.end - segments.start).tolist() == [1] * (2 * masks)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_inputs_lie_on_the_device() -> None:
    """The same numbers as on the CPU."""
    here, there = (make_case(random_recognizer("tiny", torch.device(d)), 2.0, 3, 2) for d in ("cpu", "cuda"))
    assert there.speech.is_cuda and there.lengths.is_cuda and there.encoded.frames.is_cuda
    assert torch.equal(there.encoded.posteriors.cpu(), here.encoded.posteriors)
    torch.testing.assert_close(there.encoded.states.cpu(), here.encoded.states, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("parallel", [-1, 1, 2])
def test_espnets_par_is_ours(parallel: int) -> None:
    """Same fills, wherever ESPnet's emits none of the symbols that ours excludes, and both ended by the stop token."""
    same = 0
    for seed in range(25):
        model = tiny_model(seed, sharpness=6.0)
        with torch.no_grad():  # symbols are made unlikely, because ESPnet's search does not exclude them
            model.decoder.output_layer.bias[[0, 1, 20]] = -30.0
        states, log_probs = torch.randn(1, 24, 32), random_posteriors(seed, 1, 24, 21, peak=4.0)
        log_probs[..., [1, 20]] = -20.0
        options = PAR(0.6, 4, max_seq_len=5, max_mask_parallel=parallel, ctc_weight=0.0)
        batch = encoded(model, states, torch.tensor([24]), log_probs)
        ours = options.decode(model, batch)[0]
        theirs = espnet_par(model, batch, options)
        assert len(ours.segments) == len(theirs)
        for segment, fill in zip(ours.segments, theirs, strict=True):
            if not segment.forced and len(fill) < 5:
                assert segment.fill == fill
                same += 1
    assert same > 10


def test_espnets_ar_runs() -> None:
    model = tiny_model(1, sharpness=6.0)
    batch = encoded(model, torch.randn(1, 12, 32), torch.tensor([12]))
    found = espnet_ar(model, batch, AR(beam_size=3, ctc_weight=0.3, maxlenratio=-6))
    assert found[0].yseq[0] == model.special.sos


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "b"
    options = ["--size", "tiny", "--seconds", "[2]", "--batch", "2", "--repeats", "1", "--espnet_repeats", "1"]
    assert main(["bench", *options, "--parallel", "[-1,1]", "--out", str(out)]) == 0
    found = json.loads((out / "bench.json").read_text())
    names = {row["what"] for row in found["rows"]}
    assert {"ours: par", "ours: par, batch", "ours: par, bfloat16", "ours: par, bfloat16, batch"} <= names
    assert {"encoder and front end", "encoder and front end, batch", "ctc head, batch"} <= names
    assert {"ours: par", "ours: par, batch", "ours: greedy", "espnet: par, driver mended", "espnet: ar joint"} <= names
    assert {
        "bare products of par: linear layers",
        "bare products of par: attention",
        "ours: par, 1 masks at a time",
        "whole utterance: par / greedy",
    } <= names
    assert all(row["ms_per_utterance"] > 0 for row in found["rows"])
    assert next(row for row in found["rows"] if "peak_ratio" in row)["peak_ratio"] >= 1
    assert found["machine"]["threads"] >= 1
    assert found["options"] == {
        "size": "tiny",
        "seconds": [2.0],
        "batch": 2,
        "beam": 10,
        "parallel": [-1, 1],
        "repeats": 1,
        "espnet_repeats": 1,
        "model": None,
        "data": None,
        "device": None,
        "threads": None,
        "out": str(out),
        "suite": None,
        "minutes": 9.0,
        "sizes": ["librispeech256", "librispeech512", "owsm_medium", "whisper_base", "whisper_turbo"],
        "batches": [1, 8, 32, 128],
        "precisions": ["bf16-true", "tf32"],
        "utterances": 16,
        "whisper": [],
        "head": None,
        "faster_whisper": None,
    }
    with (out / "bench.csv").open() as file:
        table = csv.DictReader(file)
        assert len(list(table)) == len(found["rows"])
        columns = (
            "seconds_of_audio masks tokens what batch ms_per_utterance times_par min_ms max_ms repeats "
            "greedy_ms ratio peak_bytes greedy_peak_bytes peak_ratio"
        )
        assert table.fieldnames == columns.split()
    assert (out / "bench.png").stat().st_size > 5000
    assert main(["bench", "--size", "librispeech265"]) == 2
    assert "did you mean 'librispeech256'" in capsys.readouterr().err


def test_of_a_trained_model(tmp_path: Path, model: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole utterances of every decoder, one at a time and batched, in multiples of greedy."""
    monkeypatch.setattr("parlab.commands.bench.speech.SECONDS", 0.5)
    options = ["--model", str(model), "--data", str(data), "--batch", "2", "--repeats", "1", "--out", str(tmp_path)]
    assert main(["bench", *options]) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert [row["batch"] for row in rows] == [1] * 4 + [2] * 4
    assert [row["ratio"] for row in rows if row["what"] == "whole utterance: greedy"] == [1.0, 1.0]
    assert {"seconds_of_audio", "masks", "tokens", "what", "batch", "ms_per_utterance", "ratio", "repeats"} == set(
        rows[0]
    )


def test_a_model_needs_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "m"]) == 2
    assert "without --data, expected speech to decode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "millions"),
    [
        ("firered_aed_l", (1050, 1200)),  # its authors say 1.1 billion
        ("dolphin_small", (340, 400)),  # 372 million
        ("wenet_u2pp", (40, 55)),
        ("speechbrain_conformer", (100, 140)),
    ],
)
def test_shapes_of_other_families(size: str, millions: tuple[int, int]) -> None:
    """They build, and have about the parameters that they should."""
    with torch.device("meta"):
        model = build_model(size_config(size))
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert millions[0] < count < millions[1]
