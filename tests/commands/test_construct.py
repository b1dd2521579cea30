"""The network of a training and its tokenizer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from parlab.commands.fit.construct import NetworkOptions, make_network, read_tokenizer
from parlab.commands.fit.datamodule import ASRData
from parlab.errors import UserError
from parlab.model.folder import write_model
from parlab.text.tokenizer import build_tokenizer

ONE_RANK = SimpleNamespace(is_global_zero=True, barrier=lambda name: None)


@pytest.fixture
def data(noise_corpus: tuple[Path, Path]) -> ASRData:
    return ASRData(train=str(noise_corpus[0]), dev=str(noise_corpus[1]))


def make(data: ASRData, folder: Path, init: str | None = None, network: Any = None, tokenizer: Any = None) -> Any:
    return make_network(NetworkOptions(init, network or {}, tokenizer), data, folder, ONE_RANK)


def test_statistics_are_those_of_the_training_data(data: ASRData, network: dict[str, Any], tmp_path: Path) -> None:
    model, _ = make(data, tmp_path, network=network, tokenizer={"token_type": "char"})
    from parlab.data.audio import load_audio

    frames = []
    for utterance in data.train_utterances()[0]:
        wave = load_audio(utterance.audio, 16000)
        frames.append(model.frontend(wave.unsqueeze(0), torch.tensor([len(wave)]))[0][0].numpy())
    pooled = np.concatenate(frames)
    np.testing.assert_allclose(model.normalize.mean.numpy(), pooled.mean(0), atol=1e-3)
    np.testing.assert_allclose(model.normalize.std.numpy(), pooled.std(0), atol=1e-3)


@pytest.mark.parametrize(
    "options", [{"token_type": "char"}, {"token_type": "bpe", "vocab_size": 18}, {"token_type": "word"}]
)
def test_tokenizers_are_made_from_the_training_texts(
    data: ASRData, network: dict[str, Any], tmp_path: Path, options: dict[str, Any]
) -> None:
    model, tokenizer = make(data, tmp_path, network=network, tokenizer=options)
    assert model.token_list == tokenizer.token_list and tokenizer.token_list[-1] == "<sos/eos>"
    assert tokenizer.decode(tokenizer.encode("STOP GO")) == "STOP GO"


def test_another_tokenizer_is_not_taken_from_an_old_run(data: ASRData, network: dict[str, Any], tmp_path: Path) -> None:
    _, first = make(data, tmp_path, network=network, tokenizer={"token_type": "bpe", "vocab_size": 18})
    _, second = make(data, tmp_path, network=network, tokenizer={"token_type": "bpe", "vocab_size": 14})
    assert len(first.token_list) != len(second.token_list)


def test_a_run_that_goes_on_keeps_its_tokenizer(data: ASRData, network: dict[str, Any], tmp_path: Path) -> None:
    make(data, tmp_path, network=network, tokenizer={"token_type": "char"})
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\nA\n<sos/eos>\n")
    _, again = make(data, tmp_path, network=network, tokenizer={"token_type": "char"})
    assert again.token_list == ["<blank>", "<unk>", "A", "<sos/eos>"]


def test_finetuning_takes_over_all_but_what_changed(data: ASRData, network: dict[str, Any], tmp_path: Path) -> None:
    old, tokenizer = make(data, tmp_path / "t", network=network, tokenizer={"token_type": "char"})
    folder = write_model(old, tokenizer, tmp_path / "model")
    new, same = make(data, tmp_path / "t2", init=str(folder), network={"model_conf": {"ctc_weight": 0.2}})
    assert same.token_list == tokenizer.token_list
    assert new.config["model_conf"] == {"ctc_weight": 0.2, "lsm_weight": 0.1}
    assert all(torch.equal(value, new.state_dict()[name]) for name, value in old.state_dict().items())


def test_another_token_list_of_the_same_size_makes_new_output_layers(
    data: ASRData, network: dict[str, Any], tmp_path: Path
) -> None:
    old, tokenizer = make(data, tmp_path / "t", network=network, tokenizer={"token_type": "char"})
    folder = write_model(old, tokenizer, tmp_path / "model")
    changed = [*tokenizer.token_list[:2], *reversed(tokenizer.token_list[2:-1]), tokenizer.token_list[-1]]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tokens.txt").write_text("\n".join(changed) + "\n", encoding="utf-8")
    options = {"token_type": "char", "path": str(tmp_path / "mine")}
    new, _ = make(data, tmp_path / "t2", init=str(folder), tokenizer=options)
    assert new.token_list == changed
    differ = {name for name, value in old.state_dict().items() if not torch.equal(value, new.state_dict()[name])}
    assert "ctc.ctc_lo.weight" in differ and "decoder.embed.0.weight" in differ
    assert all(name.startswith(("ctc.ctc_lo.", "decoder.embed.0.", "decoder.output_layer.")) for name in differ)


def test_a_tokenizer_by_path(tmp_path: Path) -> None:
    made = build_tokenizer(["YES NO YES", "STOP GO"], "bpe", tmp_path, vocab_size=12)
    assert read_tokenizer(tmp_path, "bpe").encode("YES GO") == made.encode("YES GO")
    with pytest.raises(UserError, match=r"expected tokens\.txt"):
        read_tokenizer(tmp_path / "none", "char")


def test_no_encoder(data: ASRData, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="names no encoder"):
        make(data, tmp_path, network={"decoder": "transformer"}, tokenizer={"token_type": "char"})
