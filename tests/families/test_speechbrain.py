"""SpeechBrain's folders: the numbers of its own classes, on weights by seed; every decoder; what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from parlab.model.families.speechbrain.hyperparams import Hyperparams, Named
from parlab.recognition.recognizer import Recognizer
from tests.families.same import CPU, Code, check_batches, check_features, check_greedy, check_numbers, check_refused
from tests.families.speechbrain_models import ARGUMENTS, write_speechbrain

NAMES = list(ARGUMENTS)
Models = dict[str, tuple[Recognizer, dict[str, Any]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    found = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp("speechbrain") / name
        golden = write_speechbrain(folder, name)
        found[name] = Recognizer.read(folder, CPU), golden
    return found


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_speechbrains(name: str, models: Models) -> None:
    recognizer, golden = models[name]
    assert recognizer.model.family == "SpeechBrain"
    check_numbers(recognizer, golden)
    check_greedy(recognizer, golden)


def test_features_are_speechbrains(models: Models) -> None:
    recognizer, golden = models["conformer"]
    check_features(recognizer, golden, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_decoder_in_any_batch(name: str, models: Models) -> None:
    check_batches(models[name][0])


def test_text(models: Models) -> None:
    tokenizer = models["conformer"][0].tokenizer
    assert tokenizer.token_list[0] == "<blank>"
    assert tokenizer.decode(tokenizer.encode("the cat sat")) == "the cat sat"


def test_too_short(models: Models) -> None:
    recognizer = models["conformer"][0]
    assert int(recognizer.encode([0.1 * torch.randn(recognizer.model.min_samples)]).frames[0]) >= 1


def test_tags_are_data(tmp_path: Path) -> None:
    """A reference is followed, a class is its name, arithmetic stays as it is."""
    file = tmp_path / "h.yaml"
    file.write_text(
        "a: 3\nb: !ref <a>\nc: !ref <a> * 2\nd: !name:torch.nn.GELU\ne: (1, 2)\nf: !new:torch.nn.Linear\n  x: !ref <b>\n"
    )
    params = Hyperparams(file)
    assert (params.get("a"), params.get("b"), params.get("e")) == (3, 3, [1, 2])
    assert params.get("c") == Named("ref", "", "<a> * 2")
    assert params.get("d") == Named("name", "torch.nn.GELU", "")
    assert params.part("f", "Linear") == {"x": 3}


def text(old: str, new: str) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        file = folder / "hyperparams.yaml"
        content = file.read_text()
        assert old in content
        file.write_text(content.replace(old, new))

    return change


def written(name: str, value: Any) -> Callable[[Path], Any]:
    return lambda folder: torch.save(value, folder / name)


REFUSED = {
    "weights with code": (lambda f: (f / "asr.ckpt").write_bytes(pickle.dumps(Code())), "wanted to run code"),
    "statistics with code": (lambda f: (f / "normalizer.ckpt").write_bytes(pickle.dumps(Code())), "wanted to run code"),
    "python object in YAML": (text("n_mels: 40\n", "n_mels: !!python/object/apply:os.getcwd []\n"), "cannot be read"),
    "a function of another package": (
        text("!apply:torch.manual_seed", "!apply:os.system"),
        "!apply:os.system is no part",
    ),
    "a class of another package": (
        text("!new:sentencepiece.Sent", "!new:subprocess.Sent"),
        "is no part of SpeechBrain",
    ),
    "a name of another package": (text("!name:torch.nn.GELU", "!name:builtins.eval"), "!name:builtins.eval is no part"),
    "an unknown tag": (text("!apply:torch.manual_seed", "!include:../secret.yaml"), "the tag !include"),
    "another class": (
        text("TransformerASR.TransformerASR", "TransformerST.TransformerST"),
        "Transformer is speechbrain",
    ),
    "references in a circle": (text("activation: !name:torch.nn.GELU", "activation: !ref <activation>"), "in a circle"),
    "a causal encoder": (text("causal: False", "causal: True"), "causal is True, expected False"),
    "another attention": (
        text("attention_type: RelPosMHAXL", "attention_type: hypermixing"),
        "attention_type is hypermixing",
    ),
    "another activation": (text("torch.nn.GELU", "torch.nn.Mish"), "activation is Mish"),
    "residual convolutions": (text("(False, False)", "(True, False)"), "residuals"),
    "another normalisation": (text("norm_type: global", "norm_type: sentence"), "norm_type 'sentence'"),
    "weights of another size": (text("d_ffn: 48", "d_ffn: 49"), "has shape"),
    "a model of other parts": (text(", !ref <ctc_lin>]", "]"), "has no asr_model that lists"),
    "statistics of another size": (written("normalizer.ckpt", {"glob_mean": torch.zeros(3)}), "40 bands"),
    "no statistics": (lambda f: (f / "normalizer.ckpt").unlink(), "has no normalizer.ckpt"),
    "no tokenizer": (lambda f: (f / "tokenizer.ckpt").unlink(), "has no tokenizer.ckpt"),
    "a tokenizer that is none": (lambda f: (f / "tokenizer.ckpt").write_bytes(b"x"), "no sentencepiece model"),
    "another number of outputs": (text("output_neurons: 40", "output_neurons: 41"), "has 40 pieces, but the model 41"),
    "a start that is no token": (text("bos_index: 1", "bos_index: 400"), "the id 400"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    write_speechbrain(folder, "conformer")
    check_refused(folder, *REFUSED[name])
    assert "code ran" not in capsys.readouterr().out
