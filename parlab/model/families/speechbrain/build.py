"""From SpeechBrain's hyperparameters to blocks, by the names of its classes' arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parlab.errors import UserError
from parlab.model.families.blocks.attention import BY_SPAN, PLAIN, AttentionOptions
from parlab.model.families.blocks.decoder import ACTIVATIONS, Decoder, DecoderOptions
from parlab.model.families.blocks.dropout import DropoutOptions
from parlab.model.families.blocks.encoder import ConvolutionOptions, Encoder, EncoderOptions
from parlab.model.families.speechbrain.frontend import ConvolutionFrontEnd, DecibelMel
from parlab.model.families.speechbrain.hyperparams import Hyperparams, Named

_CLASSES = {"ReLU": "relu", "GELU": "gelu", "Swish": "swish", "SiLU": "swish", "Tanh": "tanh"}


@dataclass(frozen=True)
class Sizes:
    """Of ``TransformerASR``, by its names."""

    d_model: int
    nhead: int
    num_encoder_layers: int
    num_decoder_layers: int
    d_ffn: int
    tgt_vocab: int


class Builder:
    """Makes the parts of a model.

    Raises:
        UserError: it is no ``TransformerASR`` of a known kind.
    """

    def __init__(self, params: Hyperparams):
        self.params = params
        self.conf = conf = params.part("Transformer", "TransformerASR")
        defaults = {"d_model": 512, "nhead": 8, "num_encoder_layers": 6, "num_decoder_layers": 6, "d_ffn": 2048}
        self.sizes = Sizes(*(self.number(conf, name, defaults.get(name)) for name in Sizes.__dataclass_fields__))
        self.kind = self.one_of(conf, "encoder_module", "transformer", ("transformer", "conformer"))
        self.attention = self.one_of(conf, "attention_type", "regularMHA", ("regularMHA", "RelPosMHAXL"))
        self.one_of(conf, "positional_encoding", "fixed_abs_sine", ("fixed_abs_sine",))
        self.one_of(conf, "causal", True, (False,))  # SpeechBrain's own default is True
        self.one_of(conf, "output_hidden_states", False, (False,))
        self.pre_norm = bool(conf.get("normalize_before", False))
        self.dropped = self.share(conf, "dropout", 0.1)
        if self.kind == "transformer" and self.attention != "regularMHA":
            raise self.error("attention_type", self.attention, ("regularMHA",))

    def features(self) -> DecibelMel:
        """The front end."""
        conf = self.params.part("compute_features", "Fbank")
        self.one_of(conf, "deltas", False, (False,))
        self.one_of(conf, "context", False, (False,))
        self.one_of(conf, "filter_shape", "triangular", ("triangular",))
        rate, bands = self.number(conf, "sample_rate", 16000), self.number(conf, "n_mels", 40)
        lengths = float(conf.get("win_length", 25)), float(conf.get("hop_length", 10))
        band = float(conf.get("f_min", 0)), float(conf.get("f_max") or rate // 2)
        return DecibelMel(bands, self.number(conf, "n_fft", 400), rate, lengths, band)

    def encoder(self, bands: int) -> Encoder:
        """The convolutions and the encoder, for features of so many bands."""
        conf = self.params.part("CNN", "ConvolutionFrontEnd")
        self.one_of(conf, "num_layers_per_block", 5, (1,))
        self.one_of(conf, "padding", "same", ("same",))
        count = self.number(conf, "num_blocks", 3)
        if any(self.list_of(conf, "residuals", [True] * count)) or set(self.list_of(conf, "dilations", [1])) != {1}:
            raise self.error("residuals or dilations", "set", ("none",))
        lists = [self.list_of(conf, n, [None] * count) for n in ("out_channels", "kernel_sizes", "strides")]
        layers = tuple(zip(*lists, strict=False))
        if len(layers) != count or not all(type(x) is int and x > 0 for layer in layers for x in layer):
            raise self.error("out_channels, kernel_sizes or strides", lists, (f"{count} whole numbers each",))
        shares = self.share(conf, "dropout", 0.1), self.dropped
        front = ConvolutionFrontEnd(bands, self.sizes.d_model, layers, shares)  # type: ignore[arg-type]
        return Encoder(front, self._encoder_options())

    def _encoder_options(self) -> EncoderOptions:
        sizes, conformer = self.sizes, self.kind == "conformer"
        relative = self.attention == "RelPosMHAXL"
        dropped = self.dropped
        attention = AttentionOptions(sizes.d_model, sizes.nhead, dropout=dropped)
        if relative:  # SpeechBrain scales by the whole width
            biases = (False, False, False, True)
            scale = 1.0 / math.sqrt(sizes.d_model)
            attention = AttentionOptions(sizes.d_model, sizes.nhead, BY_SPAN, biases, scale, dropout=dropped)
        convolution = None
        if conformer:
            bias = bool(self.conf.get("bias", True))
            convolution = ConvolutionOptions(self.number(self.conf, "kernel_size", 31), bias=bias)
        return EncoderOptions(
            attention,
            hidden=sizes.d_ffn,
            blocks=sizes.num_encoder_layers,
            convolution=convolution,
            activation=self.activation("conformer_activation", "swish") if conformer else self.activation(),
            add_positions=attention.positions == PLAIN,
            eps=1e-5 if conformer else 1e-6,
            final_eps=1e-6,
            pre_norm=self.pre_norm,
            # A conformer's drops nothing of what its attention adds.
            dropout=DropoutOptions(0.0, 0.0, 0.0 if conformer else dropped, dropped, dropped, dropped),
        )

    def decoder(self) -> Decoder:
        """The decoder, with ``seq_lin`` as its output."""
        sizes, dropped = self.sizes, self.dropped
        return Decoder(
            DecoderOptions(
                sizes.tgt_vocab,
                AttentionOptions(sizes.d_model, sizes.nhead, dropout=dropped),
                hidden=sizes.d_ffn,
                layers=sizes.num_decoder_layers,
                activation=self.activation(),
                eps=1e-6,
                pre_norm=self.pre_norm,
                dropout=DropoutOptions(attention=dropped, feed=dropped, inner=dropped),
                source_dropout=dropped,
            )
        )

    def activation(self, name: str = "activation", default: str = "relu") -> str:
        """The activation that an argument names, as ``!name:torch.nn.GELU``."""
        value = self.conf.get(name)
        if value is None:
            return default
        short = value.target.rpartition(".")[2] if isinstance(value, Named) else str(value)
        if short not in _CLASSES:
            raise self.error(name, short, tuple(_CLASSES))
        assert _CLASSES[short] in ACTIVATIONS
        return _CLASSES[short]

    def number(self, conf: Mapping[str, Any], name: str, default: int | None = None) -> int:
        """An argument that is a whole number above 0."""
        value = conf.get(name, default)
        if type(value) is not int or not 0 < value < 1_000_000:
            raise self.error(name, value if value is not None else "not given", ("a whole number above 0",))
        return value

    def share(self, conf: Mapping[str, Any], name: str, default: float) -> float:
        """An argument that is a share from 0 to 1."""
        value = conf.get(name, default)
        if type(value) not in (int, float) or not 0.0 <= value <= 1.0:
            raise self.error(name, value, ("a share from 0 to 1",))
        return float(value)

    def losses(self) -> dict[str, Any]:
        """How the losses of a training are weighted, under ESPnet's names; the recipe's CTC weight where the file names none."""
        found = {name: self.params.get(name) for name in ("ctc_weight", "label_smoothing")}
        known = {name: value for name, value in found.items() if value is not None}
        weights = self.share(known, "ctc_weight", 0.3), self.share(known, "label_smoothing", 0.0)
        return {"ctc_weight": weights[0], "lsm_weight": weights[1]}

    def list_of(self, conf: Mapping[str, Any], name: str, default: list[Any]) -> list[Any]:
        """An argument that is a list."""
        value = conf.get(name, default)
        if not isinstance(value, list):
            raise self.error(name, value, ("a list",))
        return value

    def one_of(self, conf: Mapping[str, Any], name: str, default: Any, known: tuple[Any, ...]) -> Any:
        """An argument that has one of the known values."""
        value = conf.get(name, default)
        if value not in known:
            raise self.error(name, value, known)
        return value

    def error(self, name: str, value: Any, known: tuple[Any, ...]) -> UserError:
        """About an argument."""
        return UserError(
            f"{self.params.path}: {name} is {str(value)[:60]}, expected {' or '.join(str(k) for k in known)}; name another model"
        )
