"""SpeechBrain's folders: ``hyperparams.yaml``, ``asr.ckpt``, ``normalizer.ckpt``, ``tokenizer.ckpt`` (a sentencepiece model)."""

from __future__ import annotations

import re
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
    own = {"token_list": tokenizer.token_list, "token_type": "bpe", "model_conf": {"ctc_weight": 0.3}}
    model = BlockModel("SpeechBrain", own, special, parts)
    # 3. Its weights.
    state = {k: v for k, v in model.state_dict().items() if k.startswith("normalize.")}
    weights = path / "asr.ckpt"
    names = params.references("asr_model") or params.references("model")
    if not set(_PARTS) <= set(names):
        raise UserError(
            f"{params.path} has no asr_model that lists {', '.join(_PARTS)} (it lists {', '.join(names) or 'none'}); name another model"
        )
    state |= renamed(read_weights(weights), names, builder.sizes.nhead)
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


_NAMES = [
    (r"CNN\.convblock_(\d+)\.convs\.conv_0\.conv\.", r"encoder.embed.blocks.\1.conv."),
    (r"CNN\.convblock_(\d+)\.convs\.norm_0\.norm\.", r"encoder.embed.blocks.\1.norm."),
    (r"ctc_lin\.w\.", "ctc.ctc_lo."),
    (r"seq_lin\.w\.", "decoder.output_layer."),
    (r"Transformer\.custom_src_module\.layers\.0\.w\.", "encoder.embed.out."),
    (r"Transformer\.custom_tgt_module\.layers\.0\.emb\.Embedding\.", "decoder.embed."),
    (r"Transformer\.(encoder|decoder)\.norm\.norm\.", r"\1.after_norm."),
    (r"Transformer\.(encoder|decoder)\.layers\.", r"\1.\1s."),
    (r"\.mha_layer\.(?:att\.)?", ".self_attn."),
    (r"\.self_att\.att\.", ".self_attn."),
    (r"\.self_attn\.att\.", ".self_attn."),
    (r"\.multihead_attn\.att\.", ".src_attn."),
    (r"\.out_proj\.", ".linear_out."),
    (r"\.convolution_module\.layer_norm\.", ".norm_conv."),
    (r"\.convolution_module\.bottleneck\.0\.", ".conv_module.pointwise_conv1."),
    (r"\.convolution_module\.conv\.", ".conv_module.depthwise_conv."),
    (r"\.convolution_module\.after_conv\.0\.", ".conv_module.norm."),
    (r"\.convolution_module\.after_conv\.2\.", ".conv_module.pointwise_conv2."),
    (r"\.ffn_module1\.0\.", ".norm_ff_macaron."),
    (r"\.ffn_module2\.0\.", ".norm_ff."),
    (r"\.ffn_module1\.1\.ffn\.", ".feed_forward_macaron.ffn."),
    (r"\.ffn_module2\.1\.ffn\.", ".feed_forward.ffn."),
    (r"\.pos_ffn\.ffn\.", ".feed_forward.ffn."),
    (r"\.ffn\.0\.", ".w_1."),
    (r"\.ffn\.3\.", ".w_2."),
    (r"\.(norm\d)\.norm\.", r".\1."),
]


def renamed(state: Mapping[str, Tensor], parts: list[str], heads: int) -> dict[str, Tensor]:
    """SpeechBrain's names as ours.

    Args:
        parts: what the number before each name stands for.
        heads: of the relative attention, whose projections are stored head by head.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        number, _, rest = name.partition(".")
        name = f"{parts[int(number)]}.{rest}" if number.isdigit() and int(number) < len(parts) else name
        if name.startswith("Transformer.positional_encoding"):
            continue
        relative = ".mha_layer." in name and ".att." not in name
        for pattern, ours in _NAMES:
            name = re.sub(pattern, ours, name)
        if name.endswith("pointwise_conv2.weight"):
            value = value.unsqueeze(-1)
        if name.endswith("in_proj_weight") and relative:
            value = value.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            base, kind = name.rsplit(".in_proj_", 1)
            found |= {f"{base}.linear_{x}.{kind}": part for x, part in zip("qkv", value.chunk(3), strict=True)}
            continue
        if "pos_bias" in name:
            value = value.reshape(heads, -1)
        found[name] = value
    return _conformer_norms(found)


def _conformer_norms(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A conformer's ``norm1`` stands before its attention, ``norm2`` at its end."""
    if not any(".conv_module." in name for name in state):
        return state
    pairs = (
        (r"^(encoder\.encoders\.\d+)\.norm1\.", r"\1.norm_mha."),
        (r"^(encoder\.encoders\.\d+)\.norm2\.", r"\1.norm_final."),
    )
    for pattern, ours in pairs:
        state = {re.sub(pattern, ours, name): value for name, value in state.items()}
    return state
