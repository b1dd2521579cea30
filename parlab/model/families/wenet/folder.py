"""WeNet's folders: ``train.yaml``, weights (``final.pt``, or one other ``*.pt``), ``units.txt``, ``global_cmvn``, a ``*.model`` for BPE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from parlab.errors import UserError
from parlab.model.families.blocks.model import BlockModel, inside, special_tokens
from parlab.model.families.blocks.origin import filled
from parlab.model.families.blocks.subsampling import CTCHead
from parlab.model.families.espnet_folder import read_mapping
from parlab.model.families.fbank import FbankOptions, GlobalCMVN, KaldiFbank, read_cmvn
from parlab.model.families.weights import load_weights, read_weights
from parlab.model.families.wenet.build import build_decoder, build_encoder, losses, right_to_left, section, share
from parlab.model.families.wenet.model import WenetModel
from parlab.text.mixed import MixedTokenizer
from parlab.text.tokenizer import SPACE, Tokenizer
from parlab.types import SpecialTokens

LOOKED_FOR = "WeNet's train.yaml with a *.pt"
_CONFIG = "train.yaml"
_UNITS = ("units.txt", "lang_char.txt", "words.txt", "tokens.txt", "dict.txt")


def recognises(path: Path) -> bool:
    """Whether a folder is WeNet's."""
    return path.is_dir() and (path / _CONFIG).is_file() and any(path.glob("*.pt"))


def read_folder(path: Path) -> tuple[BlockModel, Tokenizer]:
    """Read a WeNet model and its tokenizer, in evaluation mode, in float32, on the CPU.

    Raises:
        UserError: it is another kind of model, or its files are missing, unsafe, or do not fit together.
    """
    # 1. What the folder says.
    config = read_mapping(path / _CONFIG, "WeNet's training configuration; copy it again")
    if config.get("model", "asr_model") != "asr_model":
        raise UserError(
            f"{path} holds a WeNet model of kind '{config['model']}', expected 'asr_model'; name another one"
        )
    tokens, tokenizer = read_tokenizer(config, path)
    special = _special(config, tokens)
    fbank = fbank_options(config)
    # 2. The network.
    encoder = build_encoder(config, fbank.num_mel_bins)
    width = encoder.output_size()
    weights = inside(path, None, "weights", "final.pt", "avg*.pt", "*.pt")
    assert weights is not None, "a folder is WeNet's by its *.pt"
    state = renamed(read_weights(weights))
    normalize = _normalize(config, path, state, fbank.num_mel_bins)
    parts = {
        "frontend": KaldiFbank(fbank),
        "normalize": normalize,
        "encoder": encoder,
        "decoder": build_decoder(config, width, len(tokens)),
        "ctc": CTCHead(width, len(tokens)),
    }
    reverse = build_decoder(config, width, len(tokens), "r_num_blocks") if right_to_left(config) else None
    own: dict[str, Any] = {"token_list": tokens, "token_type": tokenizer.token_type}
    own["model_conf"] = losses(config)
    if reverse is not None:
        own["model_conf"]["reverse_weight"] = share(section(config, "model_conf"), "reverse_weight", 0.0)
    model = WenetModel(own, special, parts, reverse)
    # 3. Its weights.
    load_weights(model, state, weights)
    return model.eval().requires_grad_(False), tokenizer


def read_tokenizer(config: Mapping[str, Any], path: Path) -> tuple[list[str], Tokenizer]:
    """The token list of ``units.txt`` (``symbol id`` a line), and the tokenizer on it.

    Raises:
        UserError: there is none, or it does not number its symbols from 0.
    """
    conf = config.get("tokenizer_conf") or {}
    kind = config.get("tokenizer", "char")
    if kind not in {"char", "bpe"}:
        raise UserError(f"train.yaml names the tokenizer '{kind}', expected char or bpe; name another model")
    file = inside(path, conf.get("symbol_table_path"), "symbol table", *_UNITS)
    if file is None:
        raise UserError(
            f"{path} has no symbol table, expected {_UNITS[0]} with a symbol and its id a line; put it there"
        )
    tokens = read_units(file)
    if config.get("output_dim", len(tokens)) != len(tokens):
        raise UserError(
            f"{file} has {len(tokens)} symbols, but train.yaml an output_dim of {config['output_dim']}; take both from the same model"
        )
    pieces = inside(path, conf.get("bpe_path"), "sentencepiece model", "*.model")
    if kind == "bpe" or pieces is not None:
        return tokens, MixedTokenizer(tokens, pieces.read_bytes() if pieces is not None else None)
    # WeNet's characters write a blank as sentencepiece does.
    tokens = [SPACE if t == "\u2581" else t for t in tokens]
    return tokens, Tokenizer(tokens, "char")


def read_units(file: Path) -> list[str]:
    """The symbols of a file with a symbol and its id a line.

    Raises:
        UserError: it cannot be read, or the ids are not 0, 1, 2 and so on.
    """
    try:
        lines = [line.rstrip("\r").rsplit(None, 1) for line in file.read_text(encoding="utf-8").split("\n")]
        pairs = {int(parts[1]): parts[0] for parts in lines if parts}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"{file} is no symbol table ({str(error)[:80]}), expected a symbol and its id a line"
        ) from error
    if not pairs or sorted(pairs) != list(range(len(pairs))):
        raise UserError(f"{file} does not number its symbols 0, 1, 2 and so on, expected each id once; copy it again")
    return [pairs[i] for i in range(len(pairs))]


def _special(config: Mapping[str, Any], tokens: list[str]) -> SpecialTokens:
    symbols = (config.get("tokenizer_conf") or {}).get("special_tokens") or {}
    last = len(tokens) - 1
    blank = (config.get("ctc_conf") or {}).get("ctc_blank_id", 0)
    return special_tokens(tokens, blank, symbols.get("<sos>", last), symbols.get("<eos>", last))


def fbank_options(config: Mapping[str, Any]) -> FbankOptions:
    """The options of the features that the training read.

    Raises:
        UserError: they are no filter bank, or have another size than the encoder's input.
    """
    conf = config.get("dataset_conf") or {}
    kind = conf.get("feats_type", "fbank")
    if kind != "fbank":
        raise UserError(f"train.yaml has the feats_type '{kind}', expected fbank; name another model")
    bank = conf.get("fbank_conf") or {}
    bands = config.get("input_dim", bank.get("num_mel_bins", 80))
    if type(bands) is not int or bands < 1 or bank.get("num_mel_bins", bands) != bands:
        raise UserError(
            f"train.yaml has an input_dim of {bands!r} and num_mel_bins of {bank.get('num_mel_bins')!r}, expected one size; copy it again"
        )
    rate = (conf.get("resample_conf") or {}).get("resample_rate", 16000)
    length, shift = bank.get("frame_length", 25), bank.get("frame_shift", 10)
    if not all(type(x) in (int, float) and x > 0 for x in (rate, length, shift)):
        raise UserError("train.yaml has a sample rate or frame length that is no number above 0; copy it again")
    return FbankOptions(bands, float(length), float(shift), int(rate), str(bank.get("window_type", "povey")))


def _normalize(config: Mapping[str, Any], path: Path, state: Mapping[str, Tensor], bands: int) -> GlobalCMVN | None:
    """The normalisation: the weights hold it, in older models its file alone."""
    conf = config.get("cmvn_conf") or {}
    named = conf.get("cmvn_file") or config.get("cmvn_file")
    mean, istd = state.get("normalize.mean"), state.get("normalize.istd")
    if mean is not None and istd is not None:
        return GlobalCMVN(mean.clone(), istd.clone())
    file = inside(path, named, "statistics", "global_cmvn")
    if file is None:
        return None
    found = read_cmvn(file, bands)
    assert isinstance(state, dict)
    state |= {"normalize.mean": found.mean, "normalize.istd": found.istd}
    return found


T = TypeVar("T")
_NAMES = {
    "encoder.global_cmvn.": "normalize.",
    "encoder.embed.out.0.": "encoder.embed.out.",
    "encoder.embed.linear.": "encoder.embed.out.",
    "decoder.left_decoder.": "decoder.",
    "decoder.right_decoder.": "right_decoder.",
}


def renamed(state: Mapping[str, T]) -> dict[str, T]:
    """WeNet's names as ours; tables of positions, which are computed, are left out."""
    found: dict[str, T] = {}
    for name, value in state.items():
        if name.endswith(".pe"):
            continue
        for theirs, ours in _NAMES.items():
            if name.startswith(theirs):
                name = ours + name[len(theirs) :]
        found[name.replace("decoder.embed.0.", "decoder.embed.")] = value
    return found


def files(path: Path) -> list[Path]:
    """The files that make up the model of a folder, that of the weights last."""
    config = read_mapping(path / _CONFIG, "WeNet's training configuration; copy it again")
    conf, statistics = section(config, "tokenizer_conf"), section(config, "cmvn_conf")
    named = statistics.get("cmvn_file") or config.get("cmvn_file")
    found = [
        path / _CONFIG,
        inside(path, conf.get("symbol_table_path"), "symbol table", *_UNITS),
        inside(path, conf.get("bpe_path"), "sentencepiece model", "*.model"),
        # Weights may hold the statistics, so that their file need not be there.
        *(file for file in (path / "global_cmvn", path / Path(str(named)).name) if file.is_file()),
        inside(path, None, "weights", "final.pt", "avg*.pt", "*.pt"),
    ]
    return list(dict.fromkeys(file for file in found if file is not None))


def fill(contents: Any, own: Mapping[str, Tensor], path: Path) -> Any:
    """WeNet's state dict with a model's weights (``Writing``)."""
    return filled(contents, own, renamed)
