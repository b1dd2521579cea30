"""The shipped models on real speech: their figures, ESPnet's search on one, every decoder on read books."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from parlab.commands.bench.baselines import espnet_ar
from parlab.commands.predict.command import predict
from parlab.data.audio import load_audio
from parlab.data.sources import read_data
from parlab.decode import AR, DECODERS, PAR, Greedy
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel

RECIPES = Path(__file__).parents[2] / "recipes"
MODEL = RECIPES / "an4" / "model"
CORPORA = {"an4": "an4", "mini_librispeech": "librispeech5"}


@pytest.fixture(scope="module")
def model() -> HybridModel:
    return read_model(MODEL)[0]


@pytest.mark.parametrize("recipe", sorted(CORPORA))
def test_they_are_small_and_their_cards_are_there(recipe: str) -> None:
    folder = RECIPES / recipe / "model"
    assert sum(p.stat().st_size for p in folder.iterdir()) <= 12 * 2**20
    card = (folder / "README.md").read_text()
    assert all(word in card.lower() for word in ("data", "licence", "command", "hours", "wer"))


@pytest.mark.parametrize("recipe", sorted(CORPORA))
@pytest.mark.parametrize("decoder", [Greedy(), AR(), PAR()], ids=lambda d: d.name)
def test_the_figures_of_the_recipes(decoder, recipe: str, shared_data: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """WER and CER of ``results.json``, which the recipe's README shows, come out again."""
    data = shared_data / CORPORA[recipe] / "dev.jsonl"
    metrics = predict(str(RECIPES / recipe / "model"), str(data), decoder, tmp_path / "p")
    assert metrics is not None
    systems = json.loads((RECIPES / recipe / "results.json").read_text())["systems"]
    noted = next(s for s in systems if s["decoder"] == metrics["decoder"])
    # Another processor may round a posterior to the other side of a tie: a word or two, not more.
    assert metrics["wer"]["errors"] == pytest.approx(noted["wer"]["errors"], abs=3)
    assert metrics["cer"]["errors"] == pytest.approx(noted["cer"]["errors"], abs=10)


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
    metrics = predict(
        str(MODEL), str(shared_data / "librispeech5" / "dev.jsonl"), DECODERS[name](**options), tmp_path / "p", limit=6
    )
    assert metrics is not None
    assert metrics["utterances"] == 6
    assert metrics["wer"]["total"] > 60


def test_kaldi_folder_and_manifest_are_the_same(shared_data: Path, tmp_path: Path) -> None:
    for name, data in (("a", "dev.jsonl"), ("b", "kaldi/dev")):
        predict(str(MODEL), str(shared_data / "an4" / data), Greedy(), tmp_path / name, limit=None)
    texts = [
        {
            r["id"]: (r["text"], r["ref"])
            for r in map(json.loads, (tmp_path / n / "hypotheses.jsonl").read_text().splitlines())
        }
        for n in "ab"
    ]
    assert texts[0] == texts[1]
