"""Models on disk: ESPnet's layouts, ours, and what goes wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.errors import UserError
from parlab.model.families.espnet import load, task_model_class
from parlab.model.families.espnet_build import build_model
from parlab.model.families.espnet_folder import find_files
from parlab.model.folder import read_model, write_model
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer, build_tokenizer
from tests.models import tiny_config, tiny_model
from tests.s2t import FrontEnd


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, HybridModel]:
    model = tiny_model(0)
    return write_model(model, Tokenizer(model.token_list, "char"), tmp_path / "model"), model


@torch.no_grad()  # attention has another kernel for gradients, with other last digits
def encode(model: HybridModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return model.encode(torch.randn(1, 12000, generator=generator), torch.tensor([12000]))[0]


def test_round_trip(saved: tuple[Path, HybridModel]) -> None:
    folder, model = saved
    again, tokenizer = read_model(folder)
    assert torch.equal(encode(again), encode(model))
    assert tokenizer.decode(tokenizer.encode("abc ab")) == "abc ab"
    assert not again.training


@pytest.mark.parametrize("normalize", ["global_mvn", "utterance_mvn"])
def test_espnet_itself_loads_what_we_write(normalize: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ESPnet's model class, built from the config we wrote, takes the weights key for key and encodes the same."""
    model = tiny_model(2, normalize=normalize)
    if normalize == "global_mvn":
        model.normalize.mean.uniform_(-2, 2)
        model.normalize.std.uniform_(0.5, 2)
    folder = write_model(model, Tokenizer(model.token_list, "char"), tmp_path / "m")
    monkeypatch.chdir(folder)  # ESPnet takes paths of a config as they stand
    config = yaml.safe_load(Path("config.yaml").read_text())

    normal = {
        "global_mvn": ("espnet2.layers.global_mvn", "GlobalMVN"),
        "utterance_mvn": ("espnet2.layers.utterance_mvn", "UtteranceMVN"),
    }
    encoder = load("espnet2.asr.encoder.conformer_encoder", "ConformerEncoder")(input_size=40, **config["encoder_conf"])
    decoder = load("espnet2.asr.decoder.transformer_decoder", "TransformerDecoder")(21, 32, **config["decoder_conf"])
    theirs = task_model_class("asr")(
        vocab_size=21,
        token_list=config["token_list"],
        frontend=FrontEnd(),
        specaug=None,
        normalize=load(*normal[normalize])(**(config.get("normalize_conf") or {})),
        preencoder=None,
        encoder=encoder,
        postencoder=None,
        decoder=decoder,
        ctc=load("espnet2.asr.ctc", "CTC")(odim=21, encoder_output_size=32),
        joint_network=None,
        **config["model_conf"],
    )
    theirs.load_state_dict(torch.load("model.pth", weights_only=True))
    theirs.eval()
    generator = torch.Generator().manual_seed(3)
    wave = torch.randn(1, 12000, generator=generator)
    with torch.no_grad():
        want, _ = theirs.encode(wave, torch.tensor([12000]))
    torch.testing.assert_close(encode(model), want, atol=2e-5, rtol=1e-4)


def test_layouts(saved: tuple[Path, HybridModel], tmp_path: Path) -> None:
    """A run folder, an exp folder and a zoo folder with meta.yaml lead to the same files."""
    folder, _ = saved
    assert find_files(folder.parent).config == folder / "config.yaml"
    zoo = tmp_path / "zoo"
    inner = zoo / "exp" / "asr_train"
    inner.mkdir(parents=True)
    (folder / "config.yaml").rename(inner / "config.yaml")
    (folder / "model.pth").rename(inner / "valid.acc.ave_10best.pth")
    assert find_files(zoo).weights == inner / "valid.acc.ave_10best.pth"
    meta = {
        "files": {"asr_model_file": "exp/asr_train/valid.acc.ave_10best.pth"},
        "yaml_files": {"asr_train_config": "exp/asr_train/config.yaml"},
    }
    (zoo / "meta.yaml").write_text(yaml.safe_dump(meta))
    assert read_model(zoo)[0].vocab_size == 21


def test_half_precision_weights_are_read_into_float32(tmp_path: Path) -> None:
    model = tiny_model(0)
    folder = write_model(model, Tokenizer(model.token_list, "char"), tmp_path / "m", half=True)
    again, _ = read_model(folder)
    assert all(p.dtype == torch.float32 for p in again.parameters())
    torch.testing.assert_close(encode(again), encode(model), atol=2e-2, rtol=2e-2)


def test_bpe_tokenizer_travels(tmp_path: Path) -> None:
    texts = ["one two three four five", "six seven eight nine ten", "two four six eight"] * 20
    tokenizer = build_tokenizer(texts, "bpe", tmp_path / "tok", 22)
    config = tiny_config(token_list=tokenizer.token_list, token_type="bpe")
    model = build_model(config).eval()
    folder = write_model(model, tokenizer, tmp_path / "m")
    _, again = read_model(folder)
    assert again.encode("seven two") == tokenizer.encode("seven two")
    assert yaml.safe_load((folder / "config.yaml").read_text())["bpemodel"] == "bpe.model"
    # A checkpoint gives bytes and no file; they are written again.
    bytes_only = Tokenizer(tokenizer.token_list, "bpe", model_bytes=tokenizer.model_bytes)
    _, third = read_model(write_model(model, bytes_only, tmp_path / "n"))
    assert third.encode("seven two") == tokenizer.encode("seven two")


def test_rejected_folders(saved: tuple[Path, HybridModel], tmp_path: Path) -> None:
    folder, _ = saved
    with pytest.raises(UserError, match="no model at"):
        read_model(tmp_path / "nowhere")
    weights = (folder / "model.pth").read_bytes()
    (folder / "model.pth").write_bytes(weights[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        read_model(folder)
    (folder / "model.pth").write_bytes(weights)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    changed = {**config, "token_list": [*config["token_list"][:-1], "x", "<sos/eos>"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(changed))
    with pytest.raises(UserError, match="the token list has 22 entries, the weights 21"):
        read_model(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "encoder": "confromer"}))
    with pytest.raises(UserError, match="did you mean 'conformer'"):
        read_model(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "encoder_conf": {"nonsense": 1}}))
    with pytest.raises(UserError, match="encoder_conf does not fit"):
        read_model(folder)
    (folder / "config.yaml").write_text("a: [1,")
    with pytest.raises(UserError, match="no valid YAML"):
        read_model(folder)


def test_no_key_passes_silently(saved: tuple[Path, HybridModel]) -> None:
    folder, _ = saved
    state = torch.load(folder / "model.pth", weights_only=True)
    torch.save({**state, "encoder.more": torch.zeros(1)}, folder / "model.pth")
    with pytest.raises(UserError, match="1 unexpected"):
        read_model(folder)
    state.pop("ctc.ctc_lo.bias")
    torch.save(state, folder / "model.pth")
    with pytest.raises(UserError, match="1 keys missing"):
        read_model(folder)


# ---- files that a config names ------------------------------------------------------------------

SENTENCES = ["one two three four five", "six seven eight nine ten", "two four six eight"]
OTHERS = ["nine ten one seven", "five four three two six eight", "eight ten net tens"]


def bpe_folder(folder: Path, sentences: list[str] = SENTENCES) -> tuple[Path, Tokenizer]:
    """A model that names its token list and its sentencepiece model by relative paths."""
    tokenizer = build_tokenizer(sentences * 20, "bpe", folder / "made", 22)
    model = build_model(tiny_config(token_list=tokenizer.token_list, token_type="bpe")).eval()
    write_model(model, tokenizer, folder)
    (folder / "tokens.txt").write_text("\n".join(tokenizer.token_list) + "\n", encoding="utf-8")
    changed(folder, token_list="tokens.txt")
    return folder, tokenizer


def changed(folder: Path, **entries: Any) -> None:
    """Change entries of a config."""
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, **entries}), encoding="utf-8")


def test_the_working_folder_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token list and a sentencepiece model of the same names in the working folder are another model's."""
    folder, tokenizer = bpe_folder(tmp_path / "a" / "m")
    other, _ = bpe_folder(tmp_path / "other", OTHERS)
    monkeypatch.chdir(other)
    assert read_model(folder)[1].token_list == tokenizer.token_list
    monkeypatch.chdir(folder)
    assert read_model(".")[1].token_list == tokenizer.token_list
    # Where the model's own folders have none, the working folder is looked at, as by ESPnet.
    for name in ("tokens.txt", "bpe.model"):
        (folder / name).rename(tmp_path / name)
    shutil.rmtree(folder / "made")
    monkeypatch.chdir(tmp_path)
    assert read_model(folder)[1].token_list == tokenizer.token_list


def test_two_models_below_one_exp(tmp_path: Path) -> None:
    """Each has a ``bpe.model`` of its own beside its config."""
    folders = [tmp_path / "exp" / name for name in ("asr_a", "asr_b")]
    _, one = bpe_folder(folders[0])
    _, two = bpe_folder(folders[1], OTHERS)
    for folder, tokenizer in zip(folders, (one, two), strict=True):
        assert read_model(folder)[1].encode("two words") == tokenizer.encode("two words")


def test_token_lists_that_are_not_the_models(tmp_path: Path) -> None:
    folder, tokenizer = bpe_folder(tmp_path / "m")
    first, *inner, last = tokenizer.token_list
    (folder / "tokens.txt").write_text("\n".join([first, *reversed(inner), last]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="in another order"):
        read_model(folder)
    (folder / "tokens.txt").write_text("")
    with pytest.raises(UserError, match=r"token_list .* is empty"):
        read_model(folder)
    changed(folder, token_list=[])
    with pytest.raises(UserError, match=r"token_list .*is empty"):
        read_model(folder)
    changed(folder, token_list=[first, *[f"x{i}" for i in range(20)], last])
    with pytest.raises(UserError, match="20 of its 20 tokens are no pieces"):
        read_model(folder)


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ("- a\n- b\n", "holds no mapping"),
        ("just a word", "holds no mapping"),
        ("", "holds no mapping"),
        ("files: [1,", "no valid YAML"),
        ("files: [a, b]\nyaml_files: {asr_train_config: c}\n", "'files' is no mapping"),
        ("files: {asr_model_file: [1]}\nyaml_files: {asr_train_config: c}\n", "'files' is no mapping"),
        ("files: {}\n", "names no asr_model_file"),
    ],
)
def test_malformed_meta(meta: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "meta.yaml").write_text(meta)
    with pytest.raises(UserError, match=reason) as found:
        read_model(tmp_path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "options",
    [
        {"hop_length": 0},
        {"n_fft": 0},
        {"n_fft": -512},
        {"win_length": -1},
        {"win_length": 1024},
        {"n_mels": 0},
        {"hop_length": 1.5},
        {"fs": "fast"},
        {"fs": 0},
        {"window": "square"},
        {"fmin": "low"},
    ],
)
def test_sizes_of_the_front_end(options: dict[str, Any], saved: tuple[Path, HybridModel]) -> None:
    folder, _ = saved
    config = yaml.safe_load((folder / "config.yaml").read_text())
    changed(folder, frontend_conf={**config["frontend_conf"], **options})
    with pytest.raises(UserError, match=rf"front ?end's {next(iter(options))}|frontend_conf does not fit"):
        read_model(folder)


def test_options_that_are_none(saved: tuple[Path, HybridModel]) -> None:
    folder, _ = saved
    changed(folder, model_conf=["ctc_weight"])
    with pytest.raises(UserError, match=r"model_conf is .* expected options with values"):
        read_model(folder)


def test_a_misspelt_folder_is_no_hub_id(saved: tuple[Path, HybridModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first folder exists, the hub is not asked."""
    folder, _ = saved
    asked: list[bool] = []

    def download(name: str, local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        raise OSError("no such thing")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    (folder.parent / "runs").mkdir()
    monkeypatch.chdir(folder.parent)
    with pytest.raises(UserError, match="the folder runs/ holds no typo"):
        read_model("runs/typo")
    assert asked == [True]
