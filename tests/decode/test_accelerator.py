"""Every decoder on a make-believe accelerator (``tests/fake_device``): the CPU's results, no mixed devices, few host syncs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from parlab.decode import DECODERS
from parlab.decode.default import WITH_A_HEAD
from parlab.decode.scorers.language_model import LanguageModelScorer
from parlab.decode.search.fixed import looks
from parlab.model.language_model import read_language_model
from tests.fake_device.cases import cases
from tests.models import write_lm

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)  # the first test waits for all cases
NAMES = [case.name for case in cases(Path())]


@cache
def results() -> dict[str, Any]:
    """What the device's own process reports of all cases; one process, because its backend cannot be taken back."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        command = [sys.executable, "-m", "tests.fake_device", "--check", str(file)]
        run = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert run.returncode == 0, run.stderr
        return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_cpus_results_and_no_mixed_devices(name: str) -> None:
    found = results()[name]
    assert "error" not in found, found["error"]
    assert found["same"]
    assert not found["mixed"]


def syncs(name: str) -> int:
    return results()[name]["syncs"].get("search", 0)


@pytest.mark.parametrize(
    ("name", "most"),
    [("greedy", 1), ("s2t, greedy", 1), ("ctc_beam", 1), ("rescore", 2), ("rescore, lm", 2), ("s2t, rescore", 2)],
)
def test_syncs_of_decoders_without_steps(name: str, most: int) -> None:
    assert syncs(name) <= most


@pytest.mark.parametrize(
    "name", ["greedy", "greedy, legacy positions", "par, branchformer", "par, e_branchformer", "s2t, greedy"]
)
def test_encoding_waits_for_nothing(name: str) -> None:
    """From waveforms to posteriors; the case itself waits once, for random ones."""
    assert results()[name]["encoding"] == {"? [to device]": 1}


@pytest.mark.parametrize("name", ["owsm-ctc, greedy", "whisper, ar", "whisper, par, letters"])
def test_encoding_with_posteriors_of_its_own_waits_for_nothing(name: str) -> None:
    assert results()[name]["encoding"] == {}


@pytest.mark.parametrize("name", ["speculative", "s2t, speculative"])
def test_speculative_decoding_waits_once_a_pass(name: str) -> None:
    """And once in 8 of the plain steps that follow where few draft tokens are accepted, of which there are few here."""
    passes = results()[name]["passes"]
    assert passes > 3
    assert syncs(name) <= passes + 4


def test_baselines_wait_once_a_pass() -> None:
    """For the drafts, twice for a measure of frames and once for its values, then for each pass; ``gated`` for its beam too."""
    refine, gated = results()["refine"], results()["gated"]
    assert refine["passes"] > 1
    assert syncs("refine") <= 4 + refine["passes"]
    assert syncs("gated") <= 4 + gated["passes"] + 2 + -(-gated["steps"] // 8)


IN_CHUNKS = "par, 100 tokens, some at a time"
ROUNDS = "whisper, par, letters, 3 rounds"
BACKWARD = "wenet, par, backward"
LEFT_TO_RIGHT = ("whisper, par, fills", "whisper, par, letters, fills")
# Fills from left to right wait in every wave, rounds in each of them, and corrections in each pass; a measure of frames finds the
# runs again, and gaps are read from the device.
CORRECTED = "whisper, par, usual options"
OFTENER = {IN_CHUNKS, *LEFT_TO_RIGHT, ROUNDS, CORRECTED, "par, gaps", f"{BACKWARD}, one at a time"}


@pytest.mark.parametrize(
    "name", [name for name in NAMES if "par" in name.replace(",", "").split() and name not in OFTENER]
)
def test_par_waits_six_times_at_most(name: str) -> None:
    """However many steps its search takes."""
    assert syncs(name) <= 6


def test_corrections_wait_once_a_pass() -> None:
    """The host lines up what the decoder writes with the draft; besides, PAR waits as often as without."""
    assert syncs(CORRECTED) <= 6 + WITH_A_HEAD.corrections
    passes = results()["whisper, speculative, usual options"]["passes"]
    assert passes > 3
    assert syncs("whisper, speculative, usual options") <= passes + 4


def test_long_fills_wait_no_oftener() -> None:
    """A read of drafts, one of fills, and two looks in up to 128 steps, which the search does take."""
    assert results()["par, 100 tokens"]["steps"] > 32
    assert syncs("par, 100 tokens") == 4


def test_chunks_look_each_for_themselves() -> None:
    """Drafts and fills are read once for all chunks; each chunk of long fills looks on its own."""
    chunks = -(-results()[IN_CHUNKS]["segments"] // 4)
    assert chunks > 2
    assert 2 < syncs(IN_CHUNKS) <= 2 + 2 * chunks
    assert syncs("par, some at a time") <= syncs("par") + 1


def test_a_measure_and_gaps_wait_four_times_more() -> None:
    """Twice for the evidence of a measure of frames, twice for gaps; none of it in a step."""
    assert syncs("par, gaps") <= syncs("par, words") + 4


def test_drafts_of_a_prefix_beam_wait_once() -> None:
    """Then PAR waits for the decoder's measure, for the fills, and for a look."""
    assert results()["par, n-grams draft"]["steps"] > 8
    assert syncs("par, n-grams draft") <= 4


@pytest.mark.parametrize("name", LEFT_TO_RIGHT)
def test_fills_from_left_to_right_wait_in_each_wave(name: str) -> None:
    """For the hypotheses whose next word is read, for the fills, and for a look; a wave needs a pass. Drafts take one."""
    assert syncs(name) <= 1 + 3 * results()[name]["passes"]


def test_a_round_waits_a_constant_number_of_times() -> None:
    """For the chances of the texts, the hypotheses whose next word is read, the fills, and a look."""
    one, three = (results()[name] for name in ("whisper, par, letters, a round", ROUNDS))
    assert three["passes"] > one["passes"] == 1
    assert syncs("whisper, par, letters, a round") <= 5
    assert syncs(ROUNDS) <= 5 + 4 * 2


def test_judging_by_the_text_after_a_fill_waits_once() -> None:
    """For the hypotheses that are judged, of each chunk: no step of their reading waits, not even where a single segment is read."""
    assert results()[BACKWARD]["steps"] >= 8
    assert syncs(BACKWARD) <= 4
    one_by_one = results()[f"{BACKWARD}, one at a time"]
    assert one_by_one["segments"] > 2
    assert syncs(f"{BACKWARD}, one at a time") <= 3 + one_by_one["segments"]


def test_no_step_of_ctc_by_characters_waits() -> None:
    """A search of 33 steps waits as often as one of 8, but for a look."""
    long, short = "whisper, par, letters, 100 tokens", "whisper, par, letters"
    assert results()[long]["steps"] > 4 * results()[short]["steps"] - 1
    assert syncs(long) == syncs(short) + 1
    waiting = {line.split(":")[0] for line in results()[long]["searching"]}
    assert waiting <= {"parlab/transfer.py", "parlab/decode/search/fixed.py"}


@pytest.mark.parametrize("name", ["whisper, ar", "whisper, ar, language asked", "whisper, ar, times"])
def test_whispers_beam_waits_once_in_eight_steps(name: str) -> None:
    """Under Whisper's rules, and while the beam is filled again."""
    steps = results()[name]["steps"]
    assert steps > 30
    assert syncs(name) <= 2 + steps // 8


def test_looks() -> None:
    assert [sorted(looks(n, segments=True)) for n in (1, 8, 9, 32, 33, 129)] == [
        [],
        [],
        [8],
        [8],
        [8, 32],
        [8, 32, 128],
    ]
    assert all(len(looks(n, segments=True)) <= 3 for n in range(513))
    assert [sorted(looks(n, segments=False)) for n in (8, 40, 65)] == [[], [10, 20, 30], [*range(8, 65, 8)]]


def test_no_step_of_par_waits() -> None:
    """A read of drafts, one of fills, and looks at whether a row is left; all from lines that no step runs."""
    assert results()["par, words"]["steps"] > results()["par, espnet"]["steps"]
    assert syncs("par, words") - syncs("par, espnet") <= 1
    waiting = {line.split(":")[0] for line in results()["par, words"]["searching"]}
    assert waiting <= {"parlab/transfer.py", "parlab/decode/search/fixed.py"}


@pytest.mark.parametrize(
    "name", ["ar", "ar, 8 tokens", "ar, 24 tokens", "ar, attention", "ar, n-best", "s2t, ar, times"]
)
def test_ar_looks_once_in_eight_steps(name: str) -> None:
    steps = results()[name]["steps"]
    assert steps >= 7
    assert syncs(name) <= 2 + -(-steps // 8)


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("ar, 8 tokens", "ar, 24 tokens"),
        ("par", "par, words"),
        ("whisper, par, letters", "whisper, par, letters, 100 tokens"),
    ],
)
def test_nothing_is_sent_in_a_step(short: str, long: str) -> None:
    """Lists of ids, positions and segments travel once for all steps; a copy from the host would also forbid a graph of a step."""
    assert results()[long]["steps"] > results()[short]["steps"]
    assert results()[long]["uploads"] == results()[short]["uploads"] != {}


@pytest.mark.parametrize(
    ("name", "batch", "step"),
    [
        ("greedy", 6, 0),
        ("ctc_beam", 1850, 0),
        ("rescore", 1950, 0),
        ("refine", 330, 0),
        ("ar, 8 tokens", 350, 300),
        ("ar, 24 tokens", 350, 300),
        ("par, espnet", 250, 210),
        ("par", 1150, 320),
        ("par, words", 1150, 320),
    ],
)
def test_launches(name: str, batch: int, step: int) -> None:
    """Kernels of a search, and of each of its steps: a tenth to a sixth above what was counted, with two decoder blocks."""
    found = results()[name]
    assert 0 < found["launches"]["search"] <= batch + step * found["steps"]


def test_every_decoder_is_among_the_cases() -> None:
    assert {type(case.decoder) for case in cases(Path())} == set(DECODERS.values())


def test_segments_are_searched() -> None:
    """What the cases of PAR check is a search of many segments."""
    assert results()["par"]["segments"] >= 8
    assert results()["par"]["steps"] >= 4


@pytest.mark.parametrize("kind", ["transformer", "seq_rnn"])
def test_language_models_are_normalised_in_float32(kind: str, tmp_path: Path) -> None:
    """Under autocast to bfloat16 the probabilities still sum to 1."""
    lm = read_language_model(str(write_lm(tmp_path / kind, kind)), 21, torch.device("cpu"))
    scorer = LanguageModelScorer(lm, [(20, 3, 4), (20,)], 0.5, torch.device("cpu"))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits, normalizer = scorer.score(scorer.start())
    assert logits.dtype == normalizer.dtype == torch.float32
    torch.testing.assert_close((logits - normalizer).exp().sum(1), torch.ones(2), atol=1e-5, rtol=0.0)
