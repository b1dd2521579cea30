"""The shipped models on real speech: their figures, ESPnet's search on one, every decoder on read books."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.commands.bench.baselines import espnet_ar
from parlab.data.audio import load_audio
from parlab.data.plan import prediction_batches
from parlab.data.sources import read_data
from parlab.decode import AR, DECODERS, PAR, Greedy
from parlab.decode.confidence.fitted import FILE
from parlab.decode.confidence.measure import find_measure
from parlab.decode.draft import greedy_draft
from parlab.decode.masking import mask_below
from parlab.decode.search.plan import Plan
from parlab.decode.segments import find_segments
from parlab.recognition.recognizer import Recognizer
from tests.helpers import predict

RECIPES = Path(__file__).parents[2] / "recipes"
MODEL = RECIPES / "an4" / "model"
CORPORA = {"an4": "an4", "mini_librispeech": "librispeech5"}
MOST_BYTES = {"an4": 12 * 2**20, "mini_librispeech": 36 * 2**20}  # the second one in float16


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.read(MODEL, torch.device("cpu"))


@pytest.mark.parametrize("recipe", sorted(CORPORA))
def test_they_are_not_large_and_their_cards_are_there(recipe: str) -> None:
    folder = RECIPES / recipe / "model"
    assert sum(p.stat().st_size for p in folder.iterdir()) <= MOST_BYTES[recipe]
    card = (folder / "README.md").read_text()
    assert all(word in card.lower() for word in ("data", "licence", "command", "hours", "wer"))


@pytest.mark.parametrize("recipe", sorted(CORPORA))
@pytest.mark.parametrize("decoder", [Greedy(), AR(), PAR()], ids=lambda d: d.name)
def test_the_figures_of_the_recipes(decoder, recipe: str, shared_data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """WER and CER of ``results.json``, which the recipe's README shows, come out again."""
    data = shared_data / CORPORA[recipe] / "dev.jsonl"
    metrics = predict(RECIPES / recipe / "model", data, decoder, tmp_path / "p")
    assert metrics is not None and metrics.wer is not None and metrics.cer is not None
    systems = json.loads((RECIPES / recipe / "results.json").read_text())["systems"]
    noted = next(s for s in systems if as_now(s["decoder"]) == vars(metrics.decoder))
    # Another processor may round a posterior to the other side of a tie: a word or two, not more.
    assert metrics.wer.errors == pytest.approx(noted["wer"]["errors"], abs=3)
    assert metrics.cer.errors == pytest.approx(noted["cer"]["errors"], abs=10)


def as_now(recorded: dict[str, Any]) -> dict[str, Any]:
    """A recorded decoder with the options of today: PAR had ``reference`` then; options that came later have their defaults."""
    options = {k: v for k, v in recorded["options"].items() if k != "reference"}
    return {**recorded, "options": {**vars(DECODERS[recorded["name"]]()), **options}}


@pytest.mark.parametrize("recipe", sorted(CORPORA))
def test_grids_of_segments_are_half_full(recipe: str, shared_data: Path) -> None:
    """In batches as ``predict`` makes them, slots that only fill up a bucket among them."""
    recognizer = Recognizer.read(RECIPES / recipe / "model", torch.device("cpu"))
    utterances = read_data(shared_data / CORPORA[recipe] / "dev.jsonl")
    counts: dict[str, int] = {}  # segments of each utterance, whose draft does not depend on its batch
    for batch in prediction_batches(utterances, 8):
        encoded = recognizer.encode([load_audio(u.audio, 16000) for u in batch])
        draft = greedy_draft(encoded.posteriors, encoded.frames, recognizer.model.special.blank)
        owner = find_segments(draft, mask_below(draft, PAR().threshold)).owner
        counts.update(zip((u.id for u in batch), owner.bincount(minlength=len(batch)).tolist(), strict=True))
    assert len(counts) == len(utterances) and max(counts.values()) > 1
    for size in (8, 32, 128):
        slots = 0
        for batch in prediction_batches(utterances, size):
            owners = [i for i, u in enumerate(batch) for _ in range(counts[u.id])]
            slots += Plan.of(owners, 10, torch.device("cpu")).slots if owners else 0
        assert 2 * sum(counts.values()) >= slots > 0, size


def test_the_fitted_confidences_are_of_these_weights(recognizer: Recognizer) -> None:
    fitted = json.loads((MODEL / FILE).read_text())["fitted_on"]
    assert fitted["model"] == recognizer.model_hash()
    assert {find_measure(f"{name}:file={MODEL}").name for name in ("posterior", "learned")} == {"posterior", "learned"}


@torch.inference_mode()
def test_ar_is_espnets_on_every_utterance_of_dev(recognizer: Recognizer, shared_data: Path) -> None:
    """Joint beam of 10, batches of ours against ESPnet's search one utterance at a time: tokens and scores."""
    model = recognizer.model
    utterances = sorted(read_data(shared_data / "an4" / "dev.jsonl"), key=lambda u: u.duration or 0.0)
    for start in range(0, len(utterances), 8):
        encoded = recognizer.encode([load_audio(u.audio, 16000) for u in utterances[start : start + 8]])
        ours = recognizer.decode(AR(allow_special=True), encoded)
        for i, hypothesis in enumerate(ours):
            one = encoded.select([i])
            unpadded = replace(one, states=one.states[:, : int(one.frames)])
            best = espnet_ar(model, unpadded, AR(ctc_weight=0.3))[0]
            tokens = tuple(t for t in best.yseq.tolist()[1:] if t != model.special.eos)
            assert hypothesis.tokens == tokens
            assert hypothesis.score == pytest.approx(float(best.score), abs=1e-3)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_every_decoder_on_read_books(name: str, shared_data: Path, tmp_path: Path) -> None:
    """Long sentences of another kind: it runs, and says something for each of them."""
    options = {"beam_size": 4} if name in {"ar", "par", "rescore"} else {}
    metrics = predict(
        MODEL, shared_data / "librispeech5" / "dev.jsonl", DECODERS[name](**options), tmp_path / "p", limit=6
    )
    assert metrics is not None and metrics.wer is not None
    assert metrics.utterances == 6
    assert metrics.wer.total > 60


def test_kaldi_folder_and_manifest_are_the_same(shared_data: Path, tmp_path: Path) -> None:
    for name, data in (("a", "dev.jsonl"), ("b", "kaldi/dev")):
        predict(MODEL, shared_data / "an4" / data, Greedy(), tmp_path / name)
    texts = [
        {
            r["id"]: (r["text"], r["ref"])
            for r in map(json.loads, (tmp_path / n / "hypotheses.jsonl").read_text().splitlines())
        }
        for n in "ab"
    ]
    assert texts[0] == texts[1]
