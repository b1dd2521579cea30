"""Data, audio, models and predictions that are broken."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml

from tests.bad_inputs.case import Case, Make
from tests.bad_inputs.commands import PREDICT

BAD_DATA = ("predict", "--model", "{}/m", "--data", "{}/bad", "--out", "{}/o", "--wandb", "off", "--progress", "false")
BAD_MODEL = ("predict", "--model", "{}/bad", *PREDICT[3:])


def text(name: str, content: str | bytes) -> Make:
    """A file of the working folder."""

    def make(folder: Path) -> None:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)

    return make


GOOD = '{"id": "u0", "audio_filepath": "d/u0.wav"}\n'
MANIFESTS = [
    Case(
        f"a manifest: {name}",
        tuple(a.replace("/bad", "/bad.jsonl") for a in BAD_DATA),
        text("bad.jsonl", content),
        message=message,
    )
    for name, content, message in (
        ("nothing", "", "no utterances"),
        ("blank lines", "\n\n", "no utterances"),
        ("no JSON", GOOD + "not json\n", "line 2: no valid JSON"),
        ("a list", "[1, 2]\n", ""),
        ("a number", "3\n", "'audio_filepath' is missing"),
        ("no path", '{"id": "a"}\n', "'audio_filepath' is missing"),
        ("an empty path", '{"id": "a", "audio_filepath": ""}\n', "'audio_filepath' is ''"),
        ("a path that is a number", '{"id": "a", "audio_filepath": 3}\n', "'audio_filepath' is 3"),
        ("an id twice", GOOD + GOOD, "lines 1 and 2"),
        (
            "a duration that is a word",
            '{"id": "a", "audio_filepath": "d/u0.wav", "duration": "long"}\n',
            "'duration' is 'long', expected seconds",
        ),
        ("a negative duration", '{"id": "a", "audio_filepath": "d/u0.wav", "duration": -1}\n', "seconds from 0"),
        ("a duration that is no number", '{"id": "a", "audio_filepath": "d/u0.wav", "duration": NaN}\n', "seconds"),
        ("a duration without end", '{"id": "a", "audio_filepath": "d/u0.wav", "duration": Infinity}\n', "seconds"),
        ("a duration of 1e305", '{"id": "a", "audio_filepath": "d/u0.wav", "duration": 1e305}\n', "1e+305"),
        ("an offset of 1e305", '{"id": "a", "audio_filepath": "d/u0.wav", "offset": 1e305}\n', "1e+305"),
        ("half of a character", r'{"id": "\ud800", "audio_filepath": "d/u0.wav"}' + "\n", "half of a character"),
        ("a negative offset", '{"id": "a", "audio_filepath": "d/u0.wav", "offset": -1}\n', "seconds from 0"),
        ("latin-1", b'{"id": "a", "audio_filepath": "\xe4.wav"}\n', "no UTF-8 text"),
        ("binary", bytes(range(256)), "no UTF-8 text"),
        ("all audio missing", '{"id": "a", "audio_filepath": "none.wav"}\n', "none of the 1 audio files exists"),
        ("half of a line", '{"id": "a", "audio_filep', "line 1: no valid JSON"),
        ("a nested bomb", "[" * 100_000, "no valid JSON"),
    )
]
KALDI = [
    Case(f"a Kaldi folder: {name}", BAD_DATA, text("bad/wav.scp", content), message=message)
    for name, content, message in (
        ("nothing", "", "no utterances"),
        ("a pipe", "a sox a.wav -t wav - |\n", "is a pipe"),
        ("an archive", "a data.ark:17\n", "expected an audio file"),
        ("no path", "a\n", "expected an audio file"),
        ("an id twice", "a a.wav\na b.wav\n", "both have the id 'a'"),
    )
] + [
    Case(
        "a Kaldi folder: references of other utterances",
        BAD_DATA,
        lambda f: [text("bad/wav.scp", "u0 d/u0.wav\n")(f), text("bad/text", "u-0 A\n")(f)],
        message="none of its 1 ids",
    )
]
OTHER_DATA = [
    Case("data that do not exist", BAD_DATA, message="does not exist"),
    Case("an empty folder", BAD_DATA, lambda f: (f / "bad").mkdir(), message="neither wav.scp nor audio files"),
    Case(
        "a text file as data",
        tuple(a.replace("/bad", "/bad.txt") for a in BAD_DATA),
        text("bad.txt", "a"),
        message="no known kind",
    ),
    Case(
        "cuts that are none",
        tuple(a.replace("/bad", "/bad.json") for a in BAD_DATA),
        text("bad.json", "[\n1\n]"),
        message="Lhotse",
    ),
]


def audio(write: Callable[[Path], Any]) -> Make:
    """Data of a good file and a bad one."""

    def make(folder: Path) -> None:
        write(folder / "x.wav")
        entries = [{"id": "good", "audio_filepath": "d/u0.wav"}, {"id": "bad", "audio_filepath": "x.wav"}]
        (folder / "bad.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))

    return make


def _cut(path: Path, share: float) -> None:
    soundfile.write(path, np.zeros(16000), 16000)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


AUDIO = [
    Case(
        f"audio: {name}",
        tuple(a.replace("/bad", "/bad.jsonl") for a in BAD_DATA),
        audio(write),
        status=1,
        message=message,
    )
    for name, write, message in (
        ("0 bytes", lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
        ("text", lambda p: p.write_text("hello"), "cannot be decoded"),
        ("noise of bytes", lambda p: p.write_bytes(bytes(range(256)) * 9), "cannot be decoded"),
        ("half a file", lambda p: _cut(p, 0.5), "is truncated"),
        ("half a header", lambda p: _cut(p, 0.001), "failed: bad"),
        ("one sample", lambda p: soundfile.write(p, np.zeros(1), 16000), "too short"),
        ("no sample", lambda p: soundfile.write(p, np.zeros(0), 16000), "too short"),
        ("NaN", lambda p: soundfile.write(p, np.full(9000, np.nan, dtype=np.float32), 16000, "FLOAT"), "not finite"),
        (
            "infinite",
            lambda p: soundfile.write(p, np.full(9000, np.inf, dtype=np.float32), 16000, "FLOAT"),
            "not finite",
        ),
        ("too long", lambda p: soundfile.write(p, np.zeros(8000 * 200), 8000), "200 s long"),
        ("a folder", lambda p: p.mkdir(), "is missing"),
        ("missing", lambda p: None, "is missing"),
    )
]


def model(change: Callable[[Path], Any]) -> Make:
    """A copy of the good model, changed."""

    def make(folder: Path) -> None:
        shutil.copytree(folder / "m", folder / "bad")
        change(folder / "bad")

    return make


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        for key, value in changes.items():
            config[key] = (
                {**config[key], **value} if isinstance(value, dict) and isinstance(config.get(key), dict) else value
            )
        (folder / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if v != "(none)"}))

    return change


def _weights(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state = torch.load(folder / "model.pth", weights_only=True)
        torch.save(change(state), folder / "model.pth")

    return write


class _Code:
    def __reduce__(self) -> Any:
        return print, ("code ran",)


MODELS = [
    Case(f"a model: {name}", BAD_MODEL, model(change), message=message)
    for name, change, message in (
        ("no config", lambda f: (f / "config.yaml").unlink(), "has no config.yaml"),
        ("no weights", lambda f: (f / "model.pth").unlink(), "holds 0 weight files"),
        (
            "two weights",
            lambda f: [shutil.copy(f / "model.pth", f / n) for n in ("a.pth", "b.pth")] and (f / "model.pth").unlink(),
            "holds 2 weight files",
        ),
        ("weights of 0 bytes", lambda f: (f / "model.pth").write_bytes(b""), "weights"),
        (
            "half of the weights",
            lambda f: (f / "model.pth").write_bytes((f / "model.pth").read_bytes()[:5000]),
            "cannot be read",
        ),
        ("weights that are text", lambda f: (f / "model.pth").write_text("weights"), "weights"),
        ("weights that run code", lambda f: (f / "model.pth").write_bytes(pickle.dumps(_Code())), "wanted to run code"),
        ("weights that are a list", _weights(lambda s: list(s.values())), "no state dict"),
        ("a weight missing", _weights(lambda s: dict(list(s.items())[1:])), "1 keys missing"),
        ("a weight too many", _weights(lambda s: {**s, "more.weight": torch.zeros(2)}), "1 unexpected"),
        (
            "a weight of another shape",
            _weights(lambda s: {k: v[:1] if v.dim() else v for k, v in s.items()}),
            "has shape",
        ),
        (
            "weights that are no numbers",
            _weights(lambda s: {k: v * float("nan") if v.is_floating_point() else v for k, v in s.items()}),
            "NaN",
        ),
        ("a config that is no YAML", lambda f: (f / "config.yaml").write_text("a: [1"), "no valid YAML"),
        ("a config that is a list", lambda f: (f / "config.yaml").write_text("[1]"), "holds no mapping"),
        ("a config of 0 bytes", lambda f: (f / "config.yaml").write_bytes(b""), "holds no mapping"),
        (
            "a config that makes objects",
            lambda f: (f / "config.yaml").write_text("a: !!python/object/apply:os.getcwd []"),
            "no valid YAML",
        ),
        ("no token list", _config(token_list="(none)"), "no token_list"),
        ("an empty token list", _config(token_list=[]), ""),
        ("a token list file that is missing", _config(token_list="none.txt"), "none.txt"),
        ("a shorter token list", _config(token_list=["<blank>", "a", "<sos/eos>"]), "token list"),
        ("an encoder that does not exist", _config(encoder="confromer"), "did you mean 'conformer'"),
        ("a decoder that does not exist", _config(decoder="transfomer"), "did you mean 'transformer'"),
        ("a normaliser that does not exist", _config(normalize="global_mv"), "did you mean 'global_mvn'"),
        (
            "an option of the encoder that does not exist",
            _config(encoder_conf={"blocks": 3}),
            "encoder_conf does not fit",
        ),
        ("an encoder of another size", _config(encoder_conf={"output_size": 64}), "has shape"),
        ("heads that do not divide", _config(encoder_conf={"attention_heads": 5}), "encoder_conf does not fit"),
        ("no hop", _config(frontend_conf={"hop_length": 0}), "hop_length"),
        ("a window that does not exist", _config(frontend_conf={"window": "hamm"}), ""),
        ("stored features", _config(input_size=80), "stored features"),
        ("a token type that does not exist", _config(token_type="chra"), "did you mean 'char'"),
        ("bpe without its model", _config(token_type="bpe", bpemodel="(none)"), "sentencepiece"),
        (
            "a bpe model that is none",
            lambda f: ((f / "b.model").write_text("x"), _config(token_type="bpe", bpemodel="b.model")(f)),
            "sentencepiece",
        ),
        ("a meta.yaml that names nothing", lambda f: (f / "meta.yaml").write_text("files: {}"), "meta.yaml"),
        ("a meta.yaml that is a list", lambda f: (f / "meta.yaml").write_text("[1]"), "meta.yaml"),
        ("a meta.yaml that is no YAML", lambda f: (f / "meta.yaml").write_text("a: [1"), "meta.yaml"),
        (
            "a meta.yaml of missing files",
            lambda f: (f / "meta.yaml").write_text("files: {asr_model_file: a}\nyaml_files: {asr_train_config: b}"),
            "is not there",
        ),
    )
] + [
    Case("a model that does not exist", BAD_MODEL, message="bad"),
    Case(
        "a checkpoint of 0 bytes",
        tuple(a.replace("{}/bad", "{}/c.ckpt") for a in BAD_MODEL),
        text("c.ckpt", b""),
        message="c.ckpt",
    ),
    Case(
        "a checkpoint that is text",
        tuple(a.replace("{}/bad", "{}/c.ckpt") for a in BAD_MODEL),
        text("c.ckpt", "x"),
        message="c.ckpt",
    ),
    Case(
        "a checkpoint that is a list",
        tuple(a.replace("{}/bad", "{}/c.ckpt") for a in BAD_MODEL),
        lambda f: torch.save([1], f / "c.ckpt"),
        message="c.ckpt",
    ),
    Case(
        "a checkpoint of others",
        tuple(a.replace("{}/bad", "{}/c.ckpt") for a in BAD_MODEL),
        lambda f: torch.save({"state_dict": {}}, f / "c.ckpt"),
        message="no checkpoint of parlab",
    ),
]
