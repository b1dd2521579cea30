"""FireRedASR-AED's folders: ``model.pth.tar``, ``cmvn.ark``, ``dict.txt``, and a sentencepiece model ``train_bpe1000.model``."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from parlab.errors import UserError
from parlab.model.families.blocks.attention import BY_DISTANCE, AttentionOptions
from parlab.model.families.blocks.decoder import Decoder, DecoderOptions
from parlab.model.families.blocks.dropout import DropoutOptions
from parlab.model.families.blocks.encoder import ConvolutionOptions, Encoder, EncoderOptions
from parlab.model.families.blocks.model import BlockModel, inside, special_tokens
from parlab.model.families.blocks.origin import filled
from parlab.model.families.blocks.subsampling import Conv2dSubsampling
from parlab.model.families.fbank import FbankOptions, KaldiFbank, read_cmvn
from parlab.model.families.weights import check_finite, load_weights, read_pickle
from parlab.text.mixed import MixedTokenizer
from parlab.text.tokenizer import Tokenizer

LOOKED_FOR = "FireRed's model.pth.tar with cmvn.ark"
_WEIGHTS = "model.pth.tar"
_CHANNELS, _LOOKAHEAD = 32, 6  # of its subsampling
_OUTPUT = "decoder.tgt_word_prj.weight"  # tied to the embedding
_NUMBERS = ("idim", "odim", "n_layers_enc", "n_layers_dec", "n_head", "d_model", "kernel_size")


def recognises(path: Path) -> bool:
    """Whether a folder is FireRed's."""
    return path.is_dir() and (path / _WEIGHTS).is_file() and (path / "cmvn.ark").is_file()


def read_folder(path: Path) -> tuple[BlockModel, Tokenizer]:
    """Read a FireRedASR-AED model and its tokenizer, in evaluation mode, in float32, on the CPU.

    Raises:
        UserError: it is another kind of model, or its files are missing, unsafe, or do not fit together.
    """
    # 1. What the folder says. Namespace holds the training's arguments, and does nothing when it is made.
    weights = path / _WEIGHTS
    package = read_pickle(weights, "weights", "download the model again", allowed=(Namespace,))
    args, state = (package.get(k) if isinstance(package, dict) else None for k in ("args", "model_state_dict"))
    if not isinstance(args, Namespace) or not isinstance(state, dict):
        raise UserError(
            f"{weights} holds no args with a model_state_dict, expected those of FireRedASR-AED; download the model again"
        )
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{weights} holds a model_state_dict of other things than tensors; download the model again")
    check_finite(state, weights)
    sizes, shares = _numbers(args, weights), _shares(args, weights)
    tokens = _tokens(path, sizes["odim"])
    special = special_tokens(
        tokens, getattr(args, "pad_id", 0), getattr(args, "sos_id", -1), getattr(args, "eos_id", -1)
    )
    # 2. The network.
    parts = {
        "frontend": KaldiFbank(FbankOptions(num_mel_bins=sizes["idim"])),
        "normalize": read_cmvn(path / "cmvn.ark", sizes["idim"]),
        "encoder": _encoder(sizes, shares),
        "decoder": _decoder(sizes, int(getattr(args, "pe_maxlen", 5000)), shares[0]),
    }
    pieces = inside(path, None, "sentencepiece model", "*.model")
    tokenizer = MixedTokenizer(tokens, pieces.read_bytes() if pieces is not None else None)
    own = {"token_list": tokens, "token_type": tokenizer.token_type, "model_conf": {"ctc_weight": 0.0}}
    model = BlockModel("FireRed", own, special, parts)
    # 3. Its weights; the statistics are no part of them.
    kept = {k: v for k, v in model.state_dict().items() if k.startswith("normalize.")}
    load_weights(model, kept | renamed(state), weights)
    return model.eval().requires_grad_(False), tokenizer


def _numbers(args: Namespace, weights: Path) -> dict[str, int]:
    values = {name: getattr(args, name, None) for name in _NUMBERS}
    for name, value in values.items():
        if type(value) is not int or not 0 < value < 1_000_000:
            raise UserError(
                f"{weights}: {name} is {value!r}, expected a whole number above 0; download the model again"
            )
    return values  # type: ignore[return-value] # all were looked at


def _shares(args: Namespace, weights: Path) -> tuple[float, float]:
    """The dropout of the training: of what layers add, and in feed-forward layers and convolutions."""
    found = getattr(args, "residual_dropout", 0.1), getattr(args, "dropout_rate", 0.1)
    for value in found:
        if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
            raise UserError(
                f"{weights}: a dropout is {value!r}, expected a share from 0 to 1; download the model again"
            )
    return float(found[0]), float(found[1])


def _tokens(path: Path, size: int) -> list[str]:
    """The tokens of ``dict.txt``: one a line, in the order of their ids, which may stand after them.

    Raises:
        UserError: there is none, or it has another length.
    """
    file = path / "dict.txt"
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read, expected a token a line; copy it beside model.pth.tar") from error
    tokens = [(line.split() or [""])[0] for line in lines]
    if len(tokens) != size:
        raise UserError(f"{file} has {len(tokens)} tokens, but the model {size} outputs; take both from the same model")
    return tokens


def _encoder(sizes: Mapping[str, int], shares: tuple[float, float]) -> Encoder:
    width = sizes["d_model"]
    added, inner = shares
    attention = AttentionOptions(width, sizes["n_head"], BY_DISTANCE, (False,) * 4, norms=True)
    options = EncoderOptions(
        attention,
        hidden=4 * width,
        blocks=sizes["n_layers_enc"],
        convolution=ConvolutionOptions(sizes["kernel_size"], factor=2, bias=False),
        final_norm=False,
        dropout=DropoutOptions(added, added, added, inner, inner, inner),
    )
    return Encoder(Conv2dSubsampling(sizes["idim"], width, _CHANNELS, ((3, 2), (3, 2)), _LOOKAHEAD), options)


def _decoder(sizes: Mapping[str, int], positions: int, added: float) -> Decoder:
    width = sizes["d_model"]
    attention = AttentionOptions(width, sizes["n_head"], biases=(True, False, True, True))
    options = DecoderOptions(sizes["odim"], attention, 4 * width, sizes["n_layers_dec"], "gelu")
    drop = DropoutOptions(inputs=added, attention=added, feed=added)
    return Decoder(replace(options, tied=True, output_bias=False, max_positions=positions, dropout=drop))


T = TypeVar("T")
_NAMES = [
    (r"^encoder\.input_preprocessor\.", "encoder.embed."),
    (r"^encoder\.layer_stack\.", "encoder.encoders."),
    (r"^decoder\.layer_stack\.", "decoder.decoders."),
    (r"^decoder\.tgt_word_emb\.", "decoder.embed."),
    (r"^decoder\.layer_norm_out\.", "decoder.after_norm."),
    (r"\.ffn1\.net\.0\.", ".norm_ff_macaron."),
    (r"\.ffn2\.net\.0\.", ".norm_ff."),
    (r"\.ffn1\.net\.", ".feed_forward_macaron.net."),
    (r"\.ffn2\.net\.", ".feed_forward.net."),
    (r"\.net\.1\.", ".w_1."),
    (r"\.net\.4\.", ".w_2."),
    (r"\.mhsa\.layer_norm_q\.", ".self_attn.norms.0."),
    (r"\.mhsa\.layer_norm_k\.", ".self_attn.norms.1."),
    (r"\.mhsa\.layer_norm_v\.", ".self_attn.norms.2."),
    (r"\.mhsa\.", ".self_attn."),
    (r"\.conv\.pre_layer_norm\.", ".norm_conv."),
    (r"\.conv\.batch_norm\.", ".conv_module.norm."),
    (r"(encoders\.\d+)\.conv\.", r"\1.conv_module."),
    (r"(encoders\.\d+)\.layer_norm\.", r"\1.norm_final."),
    (r"\.cross_attn\.", ".src_attn."),
    (r"\.self_attn_norm\.", ".norm1."),
    (r"\.cross_attn_norm\.", ".norm2."),
    (r"\.mlp_norm\.", ".norm3."),
    (r"\.mlp\.", ".feed_forward."),
    (r"\.w_([qkv])s\.", r".linear_\1."),
    (r"\.fc\.", ".linear_out."),
]


def renamed(state: Mapping[str, T]) -> dict[str, T]:
    """FireRed's names as ours; tables of positions are computed, and the output has the embedding's weights."""
    found: dict[str, T] = {}
    for name, value in state.items():
        if name.endswith("positional_encoding.pe") or name == _OUTPUT:
            continue
        for pattern, ours in _NAMES:
            name = re.sub(pattern, ours, name)
        found[name] = value
    return found


def files(path: Path) -> list[Path]:
    """The files that make up the model of a folder, that of the weights last."""
    pieces = inside(path, None, "sentencepiece model", "*.model")
    found = [path / "cmvn.ark", path / "dict.txt", pieces, path / _WEIGHTS]
    return [file for file in found if file is not None]


def fill(contents: Any, own: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """FireRed's package with a model's weights (``Writing``)."""
    state = filled(contents["model_state_dict"], own, renamed)
    if _OUTPUT in state:
        state[_OUTPUT] = state["decoder.tgt_word_emb.weight"]
    return {**contents, "model_state_dict": state}
