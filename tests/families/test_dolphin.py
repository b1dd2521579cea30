"""Dolphin's folders: the numbers of its own classes, on weights by seed; languages and regions; what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.decode import DECODERS
from parlab.errors import UserError
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from tests.families.dolphin_models import CONFIGS, PROMPT, UNITS, write_dolphin
from tests.families.same import CPU, Code, check_batches, check_numbers, check_refused, greedy
from tests.families.weights import waves

NAMES = list(CONFIGS)
Models = dict[str, tuple[Recognizer, dict[str, Any]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    found = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp("dolphin") / name
        golden = write_dolphin(folder, name)
        found[name] = Recognizer.read(folder, CPU), golden
    return found


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_dolphins(name: str, models: Models) -> None:
    recognizer, golden = models[name]
    assert recognizer.model.family == "Dolphin"
    asked = recognizer.asked(PromptOptions(language="zh-CN"))
    check_numbers(asked, golden)
    for i, tokens in enumerate(greedy(asked, waves())):
        longest = len(golden[f"states{i}"]) - len(PROMPT) + 1  # Dolphin counts the prompt too
        assert list(tokens[:longest]) == golden[f"greedy{i}"].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_every_decoder_in_any_batch(name: str, models: Models) -> None:
    check_batches(models[name][0])
    check_batches(models[name][0].asked(PromptOptions(language="zh-CN")))


def test_prompts(models: Models) -> None:
    """A language with its region, a language whose region the decoder tells, and neither."""
    recognizer = models["espnet"][0]
    symbols = recognizer.model.s2t
    assert symbols is not None
    assert symbols.prompt("zh-CN") == tuple(PROMPT)
    assert set(symbols.languages) == {"<en>", "<fil>", "<zh>"}
    assert set(symbols.regions) == {"<CN>", "<NULL>", "<SICHUAN>"}
    named = recognizer.asked(PromptOptions(language="zh-SICHUAN")).encode(waves()).prompts
    assert {p[1:4] for p in named} == {(UNITS.index("<zh>"), UNITS.index("<SICHUAN>"), UNITS.index("<asr>"))}
    for options in (PromptOptions(language="en"), PromptOptions(), PromptOptions(language="auto")):
        encoded = recognizer.asked(options).encode(waves())
        for i, prompt in enumerate(encoded.prompts):
            assert len(prompt) == 5 and prompt[2] in symbols.regions.values()
            alone = [*PROMPT[:1], UNITS.index("<en>")] if options.language == "en" else PROMPT[:1]
            assert list(prompt[: len(alone)]) == alone
            for at, table in ((1, symbols.languages), (2, symbols.regions))[len(alone) - 1 :]:
                hidden, _ = recognizer.model.rows.prefill(
                    torch.tensor([prompt[:at]]),
                    recognizer.model.rows.cross_cache(encoded.states[i : i + 1], encoded.frames[i : i + 1]),
                )
                scores = recognizer.model.rows.logits(hidden)[0, -1]
                assert prompt[at] == max(table.values(), key=lambda token: float(scores[token]))


@pytest.mark.parametrize("language", ["xx", "zh-XX", "xx-CN"])
def test_a_language_that_it_lacks(language: str, models: Models) -> None:
    with pytest.raises(UserError, match="this model has no"):
        models["espnet"][0].asked(PromptOptions(language=language))


def test_times(models: Models) -> None:
    """Where times are asked for, the prompt ends at the task, and the text begins with one."""
    recognizer = models["espnet"][0].asked(PromptOptions(language="zh-CN", timestamps=True))
    encoded = recognizer.encode(waves())
    assert set(encoded.prompts) == {tuple(PROMPT[:-1])}
    for h in recognizer.decode(DECODERS["ar"](beam_size=2, ctc_weight=0.0), encoded):
        assert recognizer.model.s2t is not None and recognizer.model.s2t.is_time(h.tokens[0])


def test_long_speech_is_cut_at_30_s(models: Models) -> None:
    assert models["espnet"][0].model.longest_seconds == 30.0


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        entries = yaml.safe_load((folder / "train.yaml").read_text())
        for name, value in changes.items():
            entries[name] = {**entries[name], **value} if isinstance(value, dict) else value
        (folder / "train.yaml").write_text(yaml.safe_dump(entries))

    return change


REFUSED = {
    "pickle with code": (lambda f: (f / "small.pt").write_bytes(pickle.dumps(Code())), "wanted to run code"),
    "python object in YAML": (
        lambda f: (f / "train.yaml").write_text("a: !!python/object/apply:os.getcwd []"),
        "no valid YAML",
    ),
    "object tag in YAML": (lambda f: (f / "train.yaml").write_text("a: !new:os.system [ls]"), "no valid YAML"),
    "a path out of the folder": (
        config(tokenizer_conf={"bpe_path": "../../other/bpe.model"}),
        "no path outside of the folder is read",
    ),
    "another encoder": (config(encoder="zipformer"), "the encoder 'zipformer'"),
    "positions that are not known": (config(encoder_conf={"pos_enc_layer_type": "rope_pos"}), "with rope_pos"),
    "a gate that is not known": (config(encoder_conf={"gate_activation": "tanh"}), "gate_activation 'tanh'"),
    "weights of another size": (config(encoder_conf={"linear_units": 64}), "has shape"),
    "an eps that is none": (config(layer_norm_eps="tiny"), "layer_norm_eps is 'tiny'"),
    "a front end that is none": (config(dataset_conf={"frontend_conf": {"colour": 3}}), "frontend_conf does not fit"),
    "no statistics": (config(cmvn="global_cmvn"), "no global_cmvn"),
    "two files of weights": (lambda f: (f / "base.pt").write_bytes(b"x"), "2 files for the weights"),
    "a special token beyond the list": (config(tokenizer_conf={"special_tokens": {"<eos>": 99}}), "the id 99"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    write_dolphin(folder, "espnet")
    check_refused(folder, *REFUSED[name])
    assert "code ran" not in capsys.readouterr().out
