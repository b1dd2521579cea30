"""The shipped model on real speech: its figures, ESPnet's search on it, every decoder on read books."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import AR, DECODERS, PAR, Greedy
from parlab.experiment.bench.baselines import espnet_ar
from parlab.experiment.predict import predict
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel

RECIPE = Path(__file__).parents[2] / "recipes" / "an4"
MODEL = RECIPE / "model"


@pytest.fixture(scope="module")
def model() -> HybridModel:
    return read_model(MODEL)[0]


def test_it_is_small_and_its_card_is_there() -> None:
    size = sum(p.stat().st_size for p in MODEL.iterdir())
    assert size <= 12 * 2**20
    card = (MODEL / "README.md").read_text()
    assert all(word in card.lower() for word in ("data", "licence", "command", "hours", "wer"))


@pytest.mark.parametrize("decoder", [Greedy(), AR(), PAR()], ids=lambda d: d.name)
def test_the_figures_of_the_recipe(decoder, shared_data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """WER and CER of ``recipes/an4/results.json``, which its README shows, come out again."""
    metrics = predict(str(MODEL), str(shared_data / "an4" / "dev.jsonl"), decoder, tmp_path / "p")
    assert metrics is not None
    systems = json.loads((RECIPE / "results.json").read_text())["systems"]
    noted = {system["decoder"]["name"]: system for system in systems}
    assert metrics["decoder"]["options"] == noted[decoder.name]["decoder"]["options"]
    # Another processor may round a posterior to the other side of a tie: one word, not more.
    assert metrics["wer"]["errors"] == pytest.approx(noted[decoder.name]["wer"]["errors"], abs=1)
    assert metrics["cer"]["errors"] == pytest.approx(noted[decoder.name]["cer"]["errors"], abs=4)


@torch.inference_mode()
def test_ar_is_espnets_on_every_utterance_of_dev(model: HybridModel, shared_data: Path) -> None:
    """Joint beam of 10, batches of ours against ESPnet's search one utterance at a time: tokens and scores."""
    utterances = sorted(read_data(shared_data / "an4" / "dev.jsonl"), key=lambda u: u.duration or 0.0)
    for start in range(0, len(utterances), 8):
        waves = [load_audio(u.audio, 16000) for u in utterances[start : start + 8]]
        lengths = torch.tensor([len(w) for w in waves])
        speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        states, frames = model.encode(speech, lengths)
        ours = AR(allow_special=True).decode(model, states, frames)
        for i, hypothesis in enumerate(ours):
            best = espnet_ar(model, states[i, : frames[i]], 10, 0.3, 0)[0]
            tokens = tuple(t for t in best.yseq.tolist()[1:] if t != model.special.eos)
            assert hypothesis.tokens == tokens
            assert hypothesis.score == pytest.approx(float(best.score), abs=1e-3)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_every_decoder_on_read_books(name: str, shared_data: Path, tmp_path: Path) -> None:
    """Long sentences of another kind: it runs, and says something for each of them."""
    options = {"beam_size": 4} if name in {"ar", "par", "rescore"} else {}
    metrics = predict(str(MODEL), str(shared_data / "librispeech5" / "dev.jsonl"), DECODERS[name](**options), tmp_path / "p", limit=6)
    assert metrics is not None
    assert metrics["utterances"] == 6
    assert metrics["wer"]["total"] > 60


def test_kaldi_folder_and_manifest_are_the_same(shared_data: Path, tmp_path: Path) -> None:
    for name, data in (("a", "dev.jsonl"), ("b", "kaldi/dev")):
        predict(str(MODEL), str(shared_data / "an4" / data), Greedy(), tmp_path / name, limit=None)
    texts = [
        {r["id"]: (r["text"], r["ref"]) for r in map(json.loads, (tmp_path / n / "hypotheses.jsonl").read_text().splitlines())}
        for n in "ab"
    ]
    assert texts[0] == texts[1]
