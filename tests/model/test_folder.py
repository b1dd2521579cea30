"""Models on disk: ESPnet's layouts, ours, and what goes wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from parlab.errors import UserError
from parlab.model.families.espnet import load, log_mel, task_model_class
from parlab.model.families.espnet_build import build_model
from parlab.model.families.espnet_folder import find_files
from parlab.model.folder import read_model, write_model
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer, build_tokenizer
from tests.models import tiny_config, tiny_model


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, HybridModel]:
    model = tiny_model(0)
    return write_model(model, Tokenizer(model.token_list, "char"), tmp_path / "model"), model


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

    class FrontEnd(load("espnet2.asr.frontend.abs_frontend", "AbsFrontend")):  # type: ignore[misc]
        """ESPnet's DefaultFrontend less torch_complex: torch.stft as its Stft layer calls it, then its LogMel."""

        def __init__(self) -> None:
            super().__init__()
            self.logmel = log_mel(fs=16000, n_fft=512, n_mels=40)

        def output_size(self) -> int:
            return 40

        def forward(self, speech, lengths):  # type: ignore[no-untyped-def]
            window = torch.hann_window(400)
            spectrum = torch.stft(speech, 512, 160, 400, window, center=True, return_complex=True)
            frames = lengths // 160 + 1
            return self.logmel(spectrum.abs().square().transpose(1, 2), frames)

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


def test_code_in_a_pickle_is_not_run(saved: tuple[Path, HybridModel], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return (Path.touch, (tmp_path / "ran",))

    folder, _ = saved
    torch.save({"x": Evil()}, folder / "model.pth")
    with pytest.raises(UserError, match="cannot be read"):
        read_model(folder)
    assert not (tmp_path / "ran").exists()
