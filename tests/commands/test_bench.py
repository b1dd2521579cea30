"""``bench``: its baselines are what they say, its inputs have the masks they promise."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from parlab.cli import main
from parlab.commands.bench.baselines import espnet_ar, espnet_par
from parlab.commands.bench.sizes import make_input, random_model
from parlab.decode import PAR
from parlab.decode.draft import greedy_draft
from parlab.decode.segments import find_segments, mask_below
from tests.models import encoded, random_posteriors, tiny_model


@pytest.mark.parametrize(("seconds", "masks"), [(2.0, 1), (3.0, 4), (4.0, 7)])
def test_inputs_have_single_masks(seconds: float, masks: int) -> None:
    model = random_model("tiny")
    made = make_input(model, seconds, masks, 2)
    draft = greedy_draft(made.log_probs, made.lengths, 0)
    assert draft.lengths.tolist() == [made.tokens] * 2
    segments = find_segments(draft, mask_below(draft, 0.99))
    assert segments.owner.tolist() == [0] * masks + [1] * masks
    assert (segments.end - segments.start).tolist() == [1] * (2 * masks)


@pytest.mark.parametrize("parallel", [-1, 1, 2])
def test_espnets_mended_par_is_ours(parallel: int) -> None:
    """Same fills, wherever ESPnet's emits none of the symbols that ours excludes, and both ended by the stop token."""
    same = 0
    for seed in range(25):
        model = tiny_model(seed, sharpness=6.0)
        with torch.no_grad():  # symbols are made unlikely, because ESPnet's search does not exclude them
            model.decoder.output_layer.bias[[0, 1, 20]] = -30.0
        states, log_probs = torch.randn(1, 24, 32), random_posteriors(seed, 1, 24, 21, peak=4.0)
        log_probs[..., [1, 20]] = -20.0
        lengths = torch.tensor([24])
        ours = PAR(0.6, 4, max_seq_len=5, ctc_weight=0.0).decode(model, encoded(model, states, lengths, log_probs))[0]
        theirs = espnet_par(model, states[0], log_probs[0], 0.6, 4, 5, parallel)
        assert len(ours.segments) == len(theirs)
        for segment, fill in zip(ours.segments, theirs, strict=True):
            if not segment.forced and len(fill) < 5:
                assert segment.fill == fill
                same += 1
    assert same > 10


def test_espnets_ar_runs() -> None:
    model = tiny_model(1, sharpness=6.0)
    found = espnet_ar(model, torch.randn(12, 32), 3, 0.3, 6)
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
    with (out / "bench.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(found["rows"])
    assert (out / "bench.png").stat().st_size > 5000
    assert main(["bench", "--size", "librispeech265"]) == 2
    assert "did you mean 'librispeech256'" in capsys.readouterr().err
