"""From WeNet's ``train.yaml`` to blocks, by its names and with its defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from parlab.errors import UserError, nearest
from parlab.model.families.blocks.attention import BY_KEY, PLAIN, AttentionOptions
from parlab.model.families.blocks.decoder import Decoder, DecoderOptions
from parlab.model.families.blocks.dropout import DropoutOptions
from parlab.model.families.blocks.encoder import ConvolutionOptions, Encoder, EncoderOptions
from parlab.model.families.blocks.subsampling import Conv2dSubsampling

# Kernel and stride of the convolutions of an ``input_layer``.
SUBSAMPLING = {
    "conv2d": ((3, 2), (3, 2)),
    "conv2d6": ((3, 2), (5, 3)),
    "conv2d8": ((3, 2), (3, 2), (3, 2)),
}
# Options that other values change, with the one value that is known here.
_ENCODER_ONLY = {"layer_norm_type": "layer_norm", "mlp_type": "position_wise_feed_forward", "mlp_bias": True}
_ENCODER_ONLY |= {"n_kv_head": None, "head_dim": None, "use_cnn_module": True, "positionwise_conv_kernel_size": 1}
_DECODER_ONLY = {"layer_norm_type": "layer_norm", "mlp_type": "position_wise_feed_forward", "mlp_bias": True}
_DECODER_ONLY |= {"n_kv_head": None, "head_dim": None, "input_layer": "embed", "use_output_layer": True}
_DECODER_ONLY |= {"src_attention": True, "activation_type": "relu"}


def build_encoder(config: Mapping[str, Any], bands: int) -> Encoder:
    """The encoder of a config, with fresh weights, for features of so many bands.

    Raises:
        UserError: it is of another kind, or has an option that is not known here.
    """
    kind = config.get("encoder", "conformer")
    if kind not in {"conformer", "transformer"}:
        raise UserError(
            f"train.yaml names the encoder '{kind}'{nearest(str(kind), ['conformer', 'transformer'])}, expected conformer or "
            "transformer; name another model"
        )
    conf = section(config, "encoder_conf")
    _only(conf, _ENCODER_ONLY, "encoder_conf")
    conformer = kind == "conformer"
    positions = conf.get("pos_enc_layer_type", "rel_pos" if conformer else "abs_pos")
    attention = conf.get("selfattention_layer_type", "rel_selfattn" if conformer else "selfattn")
    layer = conf.get("input_layer", "conv2d")
    for name, value, known in (
        ("pos_enc_layer_type", positions, ("rel_pos", "abs_pos", "no_pos")),
        ("selfattention_layer_type", attention, ("rel_selfattn", "selfattn")),
        ("input_layer", layer, tuple(SUBSAMPLING)),
    ):
        if value not in known:
            raise _unknown("encoder_conf", name, value, known)
    width, heads = whole(conf, "output_size", 256), whole(conf, "attention_heads", 4)
    reads = conformer and attention == "rel_selfattn"
    weights = share(conf, "attention_dropout_rate", 0.0)
    options = EncoderOptions(
        AttentionOptions(width, heads, BY_KEY if reads else PLAIN, _biases(conf, ""), dropout=weights),
        hidden=whole(conf, "linear_units", 2048),
        blocks=whole(conf, "num_blocks", 6),
        convolution=_convolution(conf) if conformer else None,
        macaron=bool(conf.get("macaron_style", True)),
        activation=conf.get("activation_type", "swish" if conformer else "relu"),
        input_scale=1.0 if positions == "no_pos" else math.sqrt(width),
        add_positions=positions == "abs_pos",
        eps=float(conf.get("norm_eps", 1e-5)),
        final_eps=float(conf.get("norm_eps", 1e-5)),
        pre_norm=bool(conf.get("normalize_before", True)),
        final_norm=bool(conf.get("final_norm", True) and conf.get("normalize_before", True)),
        dropout=dropout(conf),
    )
    if conformer and not options.pre_norm:
        raise _unknown("encoder_conf", "normalize_before", False, (True,))
    return Encoder(Conv2dSubsampling(bands, width, width, SUBSAMPLING[layer]), options)


def _convolution(conf: Mapping[str, Any]) -> ConvolutionOptions:
    norm = conf.get("cnn_module_norm", "batch_norm")
    if norm not in {"batch_norm", "layer_norm"}:
        raise _unknown("encoder_conf", "cnn_module_norm", norm, ("batch_norm", "layer_norm"))
    kernel, causal = whole(conf, "cnn_module_kernel", 15), bool(conf.get("causal", False))
    if not causal and kernel % 2 == 0:
        raise UserError(
            f"train.yaml has cnn_module_kernel {kernel} without causal, expected an odd number; copy it again"
        )
    factor = whole(conf, "conv_inner_factor", 2)
    bias, eps = bool(conf.get("conv_bias", True)), float(conf.get("conv_norm_eps", 1e-5))
    return ConvolutionOptions(kernel, causal, True, factor // 2, norm == "batch_norm", bias, eps)


def build_decoder(config: Mapping[str, Any], width: int, vocabulary: int, layers: str = "num_blocks") -> Decoder:
    """A decoder of the config's options: ``layers`` names its number, ``r_num_blocks`` that of the one from right to left.

    Raises:
        UserError: it has an option that is not known here.
    """
    conf = section(config, "decoder_conf")
    _only(conf, _DECODER_ONLY, "decoder_conf")
    if _biases(conf, "") != _biases(conf, "src_"):
        raise _unknown("decoder_conf", "src_query_bias", conf.get("src_query_bias"), ("that of query_bias",))
    options = DecoderOptions(
        vocabulary,
        AttentionOptions(
            width,
            whole(conf, "attention_heads", 4),
            biases=_biases(conf, ""),
            dropout=share(conf, "self_attention_dropout_rate", 0.0),
        ),
        hidden=whole(conf, "linear_units", 2048),
        layers=whole(conf, layers, 6),
        eps=float(conf.get("norm_eps", 1e-5)),
        pre_norm=bool(conf.get("normalize_before", True)),
        final_norm=bool(conf.get("normalize_before", True)),
        dropout=dropout(conf),
        source_dropout=share(conf, "src_attention_dropout_rate", 0.0),
    )
    return Decoder(options)


def dropout(conf: Mapping[str, Any]) -> DropoutOptions:
    """That of a section's blocks."""
    return DropoutOptions.everywhere(share(conf, "dropout_rate", 0.1), share(conf, "positional_dropout_rate", 0.1))


def _biases(conf: Mapping[str, Any], before: str) -> tuple[bool, bool, bool, bool]:
    query, key, value = (bool(conf.get(f"{before}{name}_bias", True)) for name in ("query", "key", "value"))
    return query, key, value, query  # the output's goes with the query's


def section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Options with values, none where the config has no such entry.

    Raises:
        UserError: the entry is something else.
    """
    section = config.get(name) or {}
    if not isinstance(section, Mapping):
        raise UserError(f"train.yaml: {name} is {str(section)[:60]!r}, expected options with values; copy it again")
    return section


def whole(conf: Mapping[str, Any], name: str, default: int) -> int:
    """A whole number above 0.

    Raises:
        UserError: it is something else.
    """
    value = conf.get(name, default)
    if type(value) is not int or not 0 < value < 1_000_000:
        raise UserError(f"train.yaml: {name} is {value!r}, expected a whole number above 0; copy it again")
    return value


def share(conf: Mapping[str, Any], name: str, default: float) -> float:
    """A share from 0 to 1.

    Raises:
        UserError: it is something else.
    """
    value = conf.get(name, default)
    if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
        raise UserError(f"train.yaml: {name} is {value!r}, expected a share from 0 to 1; copy it again")
    return float(value)


def losses(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the losses of a training are weighted: ``model_conf`` under the names of ESPnet's, with WeNet's defaults."""
    conf = section(config, "model_conf")
    found: dict[str, Any] = {"ctc_weight": share(conf, "ctc_weight", 0.5), "lsm_weight": share(conf, "lsm_weight", 0.0)}
    return found | {"length_normalized_loss": bool(conf.get("length_normalized_loss", False))}


def _only(conf: Mapping[str, Any], known: Mapping[str, Any], section: str) -> None:
    for name, value in known.items():
        if conf.get(name, value) != value:
            raise _unknown(section, name, conf[name], (value,))


def _unknown(section: str, name: str, value: Any, known: tuple[Any, ...]) -> UserError:
    return UserError(
        f"train.yaml: {section} has {name} {value!r}, expected {' or '.join(str(k) for k in known)} (no other is known here); name "
        "another model"
    )


def right_to_left(config: Mapping[str, Any]) -> bool:
    """Whether the model has a decoder from right to left too (U2++)."""
    return config.get("decoder", "bitransformer") == "bitransformer"
