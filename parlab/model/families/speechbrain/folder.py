"""SpeechBrain's folders: ``hyperparams.yaml``, ``asr.ckpt``, ``normalizer.ckpt``, ``tokenizer.ckpt`` (a sentencepiece model)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.families.blocks.model import BlockModel, special_tokens
from parlab.model.families.blocks.subsampling import CTCHead
from parlab.model.families.speechbrain.build import Builder
from parlab.model.families.speechbrain.frontend import GlobalNorm
from parlab.model.families.speechbrain.hyperparams import Hyperparams
from parlab.model.families.speechbrain.names import Names
from parlab.model.families.weights import load_weights, read_pickle, read_weights
from parlab.text.tokenizer import BLANK, Tokenizer

LOOKED_FOR = "SpeechBrain's hyperparams.yaml with asr.ckpt"
_PARTS = ("CNN", "Transformer", "seq_lin", "ctc_lin")


def recognises(path: Path) -> bool:
    """Whether a folder is SpeechBrain's."""
    return path.is_dir() and (path / "hyperparams.yaml").is_file() and (path / "asr.ckpt").is_file()


def read_folder(path: Path) -> tuple[BlockModel, Tokenizer]:
    """Read a SpeechBrain model and its tokenizer, in evaluation mode, in float32, on the CPU.

    Raises:
        UserError: it is another kind of model, or its files are missing, unsafe, or do not fit together.
    """
    # 1. What the folder says.
    params = Hyperparams(path / "hyperparams.yaml")
    builder = Builder(params)
    tokenizer = _tokenizer(path, builder.sizes.tgt_vocab)
    ids = [params.get(name) for name in ("blank_index", "bos_index", "eos_index")]
    blank, sos, eos = (0 if i is None and n == 0 else i for n, i in enumerate(ids))
    special = special_tokens(tokenizer.token_list, blank, sos, eos)  # type: ignore[arg-type]
    # 2. The network.
    front = builder.features()
    parts = {
        "frontend": front,
        "normalize": _normalize(path, params, front.n_mels),
        "encoder": builder.encoder(front.n_mels),
        "decoder": builder.decoder(),
        "ctc": CTCHead(builder.sizes.d_model, builder.sizes.tgt_vocab),
    }
    own = {"token_list": tokenizer.token_list, "token_type": "bpe", "model_conf": builder.losses()}
    model = BlockModel("SpeechBrain", own, special, parts)
    # 3. Its weights.
    state = {k: v for k, v in model.state_dict().items() if k.startswith("normalize.")}
    weights = path / "asr.ckpt"
    names = _parts(params)
    if not set(_PARTS) <= set(names):
        raise UserError(
            f"{params.path} has no asr_model that lists {', '.join(_PARTS)} (it lists {', '.join(names) or 'none'}); name another model"
        )
    state |= Names(names, builder.sizes.nhead).renamed(read_weights(weights))
    load_weights(model, state, weights)
    return model.eval().requires_grad_(False), tokenizer


def _beside(path: Path, name: str, what: str) -> Path:
    """A file that stands beside the weights.

    Raises:
        UserError: it is not there.
    """
    if not (path / name).is_file():
        raise UserError(f"{path} has no {name}, expected {what} beside asr.ckpt; copy it there")
    return path / name


def _tokenizer(path: Path, size: int) -> Tokenizer:
    """The pieces of ``tokenizer.ckpt`` by their ids; the first, which no text has, is CTC's blank."""
    import sentencepiece

    file = _beside(path, "tokenizer.ckpt", "a sentencepiece model")
    data = file.read_bytes()
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=data)
    except Exception as error:  # sentencepiece raises its own kinds
        raise UserError(f"{file} is no sentencepiece model; copy it again") from error
    pieces = [processor.id_to_piece(i) for i in range(processor.get_piece_size())]
    if len(pieces) != size:
        raise UserError(f"{file} has {len(pieces)} pieces, but the model {size} outputs; take both from the same model")
    return Tokenizer([BLANK, *pieces[1:]], "bpe", model_bytes=data)


def _normalize(path: Path, params: Hyperparams, bands: int) -> GlobalNorm:
    """The statistics of ``normalizer.ckpt``."""
    conf = params.part("normalize", "InputNormalization")
    if conf.get("norm_type", "global") != "global":
        raise UserError(
            f"{params.path}: normalize has norm_type {conf['norm_type']!r}, expected global; name another model"
        )
    file = _beside(path, "normalizer.ckpt", "the statistics")
    stats: Any = read_pickle(file, "statistics", "copy the file again")
    mean, std = (stats.get(k) if isinstance(stats, dict) else None for k in ("glob_mean", "glob_std"))
    if not (isinstance(mean, Tensor) and isinstance(std, Tensor) and mean.shape == std.shape == (bands,)):
        raise UserError(f"{file} holds no glob_mean and glob_std of {bands} bands; take all files from the same model")
    ones = torch.ones_like(std) if conf.get("std_norm", True) is False else std
    return GlobalNorm(mean, ones)


def _parts(params: Hyperparams) -> list[str]:
    """What the number before each name of the weights stands for."""
    return params.references("asr_model") or params.references("model")


def files(path: Path) -> list[Path]:
    """The files that make up the model of a folder, that of the weights last."""
    return [path / name for name in ("hyperparams.yaml", "normalizer.ckpt", "tokenizer.ckpt", "asr.ckpt")]


def fill(contents: Any, own: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """SpeechBrain's state dict with a model's weights (``Writing``)."""
    params = Hyperparams(path / "hyperparams.yaml")
    return Names(_parts(params), Builder(params).sizes.nhead).filled(contents, own)
