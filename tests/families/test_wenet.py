"""WeNet's folders: the numbers of its own classes, on weights by seed; every decoder; what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from parlab.decode import DECODERS
from parlab.decode.verification import sequence_scores
from parlab.errors import UserError
from parlab.model.families.fbank import KaldiFbank
from parlab.model.families.layouts import LAYOUTS
from parlab.model.families.wenet.model import reverse_rows
from parlab.model.folder import read_model
from parlab.recognition.recognizer import Recognizer
from tests.families.same import CPU, Code, check_batches, check_greedy, check_numbers, check_refused
from tests.families.weights import waves
from tests.families.wenet_models import BANDS, CONFIGS, UNITS, write_wenet

NAMES = list(CONFIGS)
Models = dict[str, tuple[Recognizer, dict[str, Any]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    found = {}
    for name in NAMES:
        folder = tmp_path_factory.mktemp("wenet") / name
        golden = write_wenet(folder, name, text_cmvn=name == "u2")
        found[name] = Recognizer.read(folder, CPU), golden
    return found


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_wenets(name: str, models: Models) -> None:
    recognizer, golden = models[name]
    assert recognizer.model.family == "WeNet"
    check_numbers(recognizer, golden)
    check_greedy(recognizer, golden)


def test_features_are_torchaudios(models: Models) -> None:
    model, golden = models["u2pp"][0].model, models["u2pp"][1]
    assert isinstance(model.frontend, KaldiFbank)
    audio = waves()
    x, frames = model.frontend(
        torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), torch.tensor([len(w) for w in audio])
    )
    assert x.shape == (3, 86, BANDS)
    for i, count in enumerate(frames.tolist()):
        torch.testing.assert_close(x[i, :count], torch.from_numpy(golden["features"][i, :count]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_every_decoder_in_any_batch(name: str, models: Models) -> None:
    check_batches(models[name][0])


def test_the_decoder_from_right_to_left(models: Models) -> None:
    """U2++ has one, whose scores are WeNet's too."""
    recognizer, golden = models["u2pp"]
    model: Any = recognizer.model
    from parlab.model.rows import RowDecoder
    from tests.families.weights import tokens

    rows = RowDecoder(model.right_decoder.spec())
    encoded = recognizer.encode(waves())
    ids = torch.cat([torch.full((3, 1), len(UNITS) - 1), tokens(len(UNITS), 3, 7)], 1)
    with torch.inference_mode():
        hidden, _ = rows.prefill(ids, rows.cross_cache(encoded.states, encoded.frames))
        for i in range(3):
            torch.testing.assert_close(
                rows.logits(hidden[i]), torch.from_numpy(golden[f"right{i}"]), atol=1e-4, rtol=1e-4
            )
    assert models["u2"][0].model.right_decoder is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
def test_rescoring_is_wenets(name: str, models: Models) -> None:
    """Its scores by the decoders, U2++'s from right to left among them, of what WeNet chose; and the choice, where both have one n-best."""
    recognizer, golden = models[name]
    reverse = 0.3 if "right0" in golden else 0.0
    encoded, model = recognizer.encode(waves()), recognizer.model
    chosen = [[tuple(golden[f"rescored{i}"].tolist())] for i in range(3)]
    cross = model.rows.cross_cache(encoded.states, encoded.frames)
    scores = sequence_scores(model.rows, cross, encoded.prompts, chosen, model.special.eos)
    if reverse:
        turned = [[tokens[::-1] for tokens in listed] for listed in chosen]
        rows = reverse_rows(model)
        cross = rows.cross_cache(encoded.states, encoded.frames)
        backward = sequence_scores(rows, cross, encoded.prompts, turned, model.special.eos)
        scores = (1 - reverse) * scores + reverse * backward
    assert scores[:, 0].tolist() == pytest.approx([float(golden[f"rescored_score{i}"]) for i in range(3)], abs=1e-3)
    if name in {"u2pp", "u2"}:
        decoder = DECODERS["rescore"](beam_size=10, attention_weight=1.0, ctc_weight=0.0, reverse_weight=reverse)
        found = recognizer.decode(decoder, encoded)
        assert [h.tokens for h in found] == [listed[0] for listed in chosen]
        assert [h.score for h in found] == pytest.approx(scores[:, 0].tolist(), abs=1e-3)


def test_reverse_weight_where_there_is_no_such_decoder(models: Models) -> None:
    recognizer = models["u2"][0]
    with pytest.raises(UserError, match="needs a decoder that reads from right to left"):
        recognizer.decode(DECODERS["rescore"](reverse_weight=0.3), recognizer.encode(waves()))
    with pytest.raises(UserError, match="reverse_weight is 2"):
        DECODERS["rescore"](reverse_weight=2.0)


def test_text(models: Models) -> None:
    tokenizer = models["u2pp"][0].tokenizer
    assert tokenizer.decode(tokenizer.encode("ab 你好 c")) == "ab 你好 c"
    assert tokenizer.encode("a你") == [3, UNITS.index("你")]


def test_too_short(models: Models) -> None:
    """The shortest utterance that is taken can be decoded."""
    for recognizer, _ in models.values():
        encoded = recognizer.encode([0.1 * torch.randn(recognizer.model.min_samples)])
        assert int(encoded.frames[0]) >= 1


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        entries = yaml.safe_load((folder / "train.yaml").read_text())
        for name, value in changes.items():
            entries[name] = {**entries[name], **value} if isinstance(value, dict) else value
        (folder / "train.yaml").write_text(yaml.safe_dump(entries))

    return change


def text(name: str, content: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(content)


REFUSED = {
    "pickle with code": (lambda f: (f / "final.pt").write_bytes(pickle.dumps(Code())), "wanted to run code"),
    "weights of another size": (config(encoder_conf={"output_size": 64}), "has shape"),
    "weights without a key": (config(decoder="transformer"), "unexpected"),
    "python object in YAML": (text("train.yaml", "a: !!python/object/apply:os.getcwd []"), "no valid YAML"),
    "object tag in YAML": (text("train.yaml", "a: !new:os.system [ls]"), "no valid YAML"),
    "named object in YAML": (text("train.yaml", "a: !apply:os.system [ls]"), "no valid YAML"),
    "path out of the folder": (
        config(tokenizer_conf={"symbol_table_path": "../../other/secret.txt"}, output_dim=3),
        "symbols, but train.yaml an output_dim",  # the folder's own units.txt is read
    ),
    "statistics out of the folder": (
        lambda f: (
            torch.save({k: v for k, v in torch.load(f / "final.pt").items() if "cmvn" not in k}, f / "final.pt"),
            (f / "global_cmvn").rename(f.parent / "outside"),
            config(cmvn_conf={"cmvn_file": "../outside"})(f),
        ),
        "no path outside of the folder is read",
    ),
    "statistics of another size": (
        text("global_cmvn", '{"mean_stat": [1], "var_stat": [1], "frame_num": 1}'),
        "40 bands",
    ),
    "statistics that are none": (text("global_cmvn", "[ 1 2"), "no statistics"),
    "units without ids": (text("units.txt", "a\nb\n"), "no symbol table"),
    "units with a gap": (text("units.txt", "a 0\nb 2\n"), "each id once"),
    "another encoder": (config(encoder="squeezeformer"), "names the encoder 'squeezeformer'"),
    "another decoder layer": (config(decoder_conf={"layer_norm_type": "rms_norm"}), "layer_norm_type 'rms_norm'"),
    "another attention": (config(encoder_conf={"selfattention_layer_type": "shaw_rel_selfattn"}), "shaw_rel_selfattn"),
    "another subsampling": (config(encoder_conf={"input_layer": "dwconv2d4"}), "dwconv2d4"),
    "another kind of model": (config(model="transducer"), "kind 'transducer'"),
    "other features": (config(dataset_conf={"feats_type": "log_mel_spectrogram"}), "feats_type"),
    "a width that is none": (config(encoder_conf={"num_blocks": "two"}), "num_blocks is 'two'"),
    "a section that is none": (config(encoder_conf=3), "encoder_conf is '3'"),
    "another tokenizer": (config(tokenizer="whisper"), "tokenizer 'whisper'"),
    "two files of weights": (
        lambda f: ((f / "final.pt").rename(f / "avg_1.pt"), (f / "avg_2.pt").write_bytes(b"x")),
        "2 files for the weights",
    ),
    "a special token beyond the list": (config(tokenizer_conf={"special_tokens": {"<sos>": 99}}), "the id 99"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    write_wenet(folder, "u2pp")
    check_refused(folder, *REFUSED[name])
    assert "code ran" not in capsys.readouterr().out


def test_an_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"has no config.yaml of ESPnet's") as caught:
        read_model(tmp_path)
    assert len(LAYOUTS) > 4 and all(layout.looked_for in str(caught.value) for layout in LAYOUTS)
