"""Dolphin's folders: ``train.yaml``, weights ``*.pt``, ``units.txt``, ``bpe.model``, ``feats_stats.npz`` or ``global_cmvn``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.families.blocks.attention import BY_DISTANCE, BY_KEY, AttentionOptions
from parlab.model.families.blocks.branchformer import BranchOptions, EBranchformerBlock
from parlab.model.families.blocks.encoder import Encoder, EncoderOptions
from parlab.model.families.blocks.model import BlockModel, inside, special_tokens
from parlab.model.families.blocks.origin import filled
from parlab.model.families.blocks.subsampling import Conv2dSubsampling, CTCHead
from parlab.model.families.espnet_folder import read_mapping
from parlab.model.families.fbank import KaldiFbank, read_cmvn
from parlab.model.families.weights import load_weights, read_weights
from parlab.model.families.wenet.build import SUBSAMPLING, build_decoder, dropout, losses, section, share, whole
from parlab.model.families.wenet.folder import T, fbank_options, read_units, renamed
from parlab.model.features import GlobalMVN, LogMelFrontend, LogMelOptions
from parlab.text.mixed import MixedTokenizer
from parlab.text.s2t import dolphin_symbols
from parlab.text.tokenizer import Tokenizer

LOOKED_FOR = "Dolphin's train.yaml with a *.pt and <notimestamp> in units.txt"
_CONFIG, _UNITS = "train.yaml", "units.txt"


class DolphinEncoder(Encoder):
    """An E-Branchformer of speech up to Dolphin's 30 s."""

    longest_seconds: ClassVar[float] = 30.0


def recognises(path: Path) -> bool:
    """Whether a folder is Dolphin's: laid out as WeNet's, with its symbols."""
    if not (path.is_dir() and (path / _CONFIG).is_file() and (path / _UNITS).is_file() and any(path.glob("*.pt"))):
        return False
    return b"<notimestamp>" in (path / _UNITS).read_bytes()


def read_folder(path: Path) -> tuple[BlockModel, Tokenizer]:
    """Read a Dolphin model and its tokenizer, in evaluation mode, in float32, on the CPU.

    Raises:
        UserError: it is another kind of model, or its files are missing, unsafe, or do not fit together.
    """
    # 1. What the folder says.
    config = read_mapping(path / _CONFIG, "Dolphin's training configuration; copy it again")
    tokens = read_units(path / _UNITS)
    index = {token: i for i, token in reversed(list(enumerate(tokens)))}
    named = section(config, "tokenizer_conf").get("special_tokens") or {}
    sos, eos = (named.get(name, index.get(name, len(tokens) - 1)) for name in ("<sos>", "<eos>"))
    special = special_tokens(tokens, section(config, "ctc_conf").get("ctc_blank_id", 0), sos, eos)
    pieces = inside(path, section(config, "tokenizer_conf").get("bpe_path"), "sentencepiece model", "*.model")
    tokenizer = MixedTokenizer(tokens, pieces.read_bytes() if pieces is not None else None)
    # 2. The network.
    front = _frontend(config)
    eps = _eps(config)
    encoder = _encoder(config, front.output_size(), eps)
    width = encoder.output_size()
    parts: dict[str, nn.Module | None] = {
        "frontend": front,
        "normalize": _normalize(config, path, front.output_size()),
        "encoder": encoder,
        "decoder": build_decoder(_with_eps(config, eps), width, len(tokens)),
        "ctc": CTCHead(width, len(tokens)),
    }
    weights_of_losses = {"ctc_weight": 0.3, **losses(config)} if "model_conf" in config else {"ctc_weight": 0.3}
    own = {"token_list": tokens, "token_type": tokenizer.token_type, "model_conf": weights_of_losses}
    model = BlockModel("Dolphin", own, special, parts, dolphin_symbols(index, sos))
    # 3. Its weights. Statistics and filters come with them, or from the folder's files.
    weights = inside(path, None, "weights", "*.pt")
    assert weights is not None, "a folder is Dolphin's by its *.pt"
    state = _renamed(read_weights(weights))
    kept = {k: v for k, v in model.state_dict().items() if k.startswith(("frontend.", "normalize."))}
    load_weights(model, kept | state, weights)
    return model.eval().requires_grad_(False), tokenizer


def _frontend(config: Mapping[str, Any]) -> LogMelFrontend | KaldiFbank:
    """ESPnet's features where the config has its ``frontend_conf``, else Kaldi's."""
    conf = section(config, "dataset_conf")
    if "frontend_conf" not in conf:
        return KaldiFbank(fbank_options(config))
    try:
        options = LogMelOptions(**section(conf, "frontend_conf"))
    except TypeError as error:
        raise UserError(f"train.yaml: frontend_conf does not fit its front end ({error}); copy it again") from error
    return LogMelFrontend(options)


def _normalize(config: Mapping[str, Any], path: Path, bands: int) -> nn.Module | None:
    kind = config.get("cmvn")
    if kind == "global_mvn":
        return GlobalMVN(inside(path, None, "statistics", "feats_stats.npz"), size=bands)
    file = inside(path, None, "statistics", "global_cmvn") if kind is not None else None
    if kind is not None and file is None:
        raise UserError(f"train.yaml has cmvn: {kind}, but {path} no global_cmvn, expected it there; copy it again")
    return read_cmvn(file, bands) if file is not None else None


def _eps(config: Mapping[str, Any]) -> float:
    """Of all norms, where the config names one."""
    value = config.get("layer_norm_eps", 1e-5)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"train.yaml: layer_norm_eps is {value!r}, expected a number; copy it again") from error


def _with_eps(config: Mapping[str, Any], eps: float) -> dict[str, Any]:
    conf = dict(section(config, "decoder_conf"))
    return {
        **config,
        "decoder_conf": {**conf, "norm_eps": eps if "layer_norm_eps" in config else conf.get("norm_eps", eps)},
    }


def _encoder(config: Mapping[str, Any], bands: int, eps: float) -> DolphinEncoder:
    """The encoder of a config: positions as ESPnet's (``rel_pos_v1``), or as WeNet's, with ``use_sdpa``.

    Raises:
        UserError: it has an option that is not known here.
    """
    conf = section(config, "encoder_conf")
    kind = config.get("encoder", "e_branchformer")
    positions = conf.get("pos_enc_layer_type", "rel_pos"), bool(conf.get("use_sdpa", False))
    known = {("rel_pos_v1", False): BY_DISTANCE, ("rel_pos", True): BY_KEY}
    only = {"input_layer": "conv2d", "use_linear_after_conv": False, "gate_activation": "identity"}
    other = [name for name, value in only.items() if conf.get(name, value) != value]
    if kind != "e_branchformer" or positions not in known or other:
        what = f"encoder_conf {other[0]} {conf[other[0]]!r}" if other else f"the encoder '{kind}' with {positions[0]}"
        raise UserError(
            f"train.yaml has {what}, expected Dolphin's e_branchformer with rel_pos_v1, or rel_pos and use_sdpa; name another model"
        )
    width, dropped = whole(conf, "output_size", 256), share(conf, "attention_dropout_rate", 0.0)
    options = EncoderOptions(
        AttentionOptions(width, whole(conf, "attention_heads", 4), known[positions], dropout=dropped),
        hidden=whole(conf, "linear_units", 2048),
        blocks=whole(conf, "num_blocks", 12),
        input_scale=math.sqrt(width),
        eps=eps,
        final_eps=eps if "layer_norm_eps" in config else float(conf.get("norm_eps", eps)),
        dropout=dropout(conf),
    )
    branch = BranchOptions(
        whole(conf, "cgmlp_linear_units", 2048),
        whole(conf, "cgmlp_conv_kernel", 31),
        whole(conf, "merge_conv_kernel", 3),
        bool(conf.get("causal", False)),
    )
    embed = Conv2dSubsampling(bands, width, width, SUBSAMPLING["conv2d"])
    return DolphinEncoder(embed, options, lambda each: EBranchformerBlock(each, branch))


def _renamed(state: Mapping[str, T]) -> dict[str, T]:
    """Dolphin's names as ours, those of models that ESPnet trained among them; the hot-word module is left out."""
    return {k: v for k, v in renamed(state).items() if not k.startswith(("context_module.", "criterion_att."))}


def files(path: Path) -> list[Path]:
    """The files that make up the model of a folder, that of the weights last."""
    config = read_mapping(path / _CONFIG, "Dolphin's training configuration; copy it again")
    pieces = inside(path, section(config, "tokenizer_conf").get("bpe_path"), "sentencepiece model", "*.model")
    weights = inside(path, None, "weights", "*.pt")
    found = [path / _CONFIG, path / _UNITS, pieces, path / "feats_stats.npz", path / "global_cmvn", weights]
    return [file for file in found if file is not None and file.is_file()]


def fill(contents: Any, own: Mapping[str, Tensor], path: Path) -> Any:
    """Dolphin's state dict with a model's weights (``Writing``)."""
    return filled(contents, own, _renamed)
