"""From ESPnet's configuration to a model, by the names in ``config.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from parlab.errors import UserError, nearest
from parlab.model.families import espnet
from parlab.model.families.openai.decoder import WhisperDecoder
from parlab.model.families.openai.encoder import WhisperEncoder
from parlab.model.families.openai.frontend import WhisperLogMel, check_config
from parlab.model.features import GlobalMVN, LogMelFrontend, LogMelOptions, UtteranceMVN
from parlab.model.hybrid import HybridModel
from parlab.model.s2t_ctc import S2TCTCModel
from parlab.text.s2t import s2t_symbols
from parlab.text.tokenizer import is_symbol
from parlab.types import SpecialTokens

PARTS = ("frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder", "decoder", "ctc", "prompt_encoder")


def build_model(config: Mapping[str, Any]) -> HybridModel:
    """Build the network that an ESPnet ``config.yaml`` describes, with fresh weights.

    Raises:
        UserError: an unknown part, a wrong option of a part, or a configuration that only ESPnet's task
            builder knows while that cannot be imported.
    """
    config = {**config, "token_list": read_token_list(config.get("token_list"))}
    special = special_tokens(config)
    kind = model_kind(config)
    parts = leaf_parts(config)
    if parts is None:
        whole = espnet.task_model(config, kind)
        parts = {name: getattr(whole, name, None) for name in PARTS}
    s2t = s2t_symbols(config, kind)
    model: HybridModel
    if s2t is not None and s2t.encoder_prompt:
        model = S2TCTCModel(config, special, parts, s2t)
    else:
        model = HybridModel(config, special, parts, kind, s2t)
    for module in model.modules():
        # Faster where the package is there, but with other results, and not on CPU; ESPnet decodes without it too.
        if hasattr(module, "use_flash_attn"):
            module.use_flash_attn = False  # type: ignore[assignment]
    if config.get("init"):
        espnet.initialize(model, config["init"])
    return model


def leaf_parts(config: Mapping[str, Any]) -> dict[str, nn.Module | None] | None:
    """The parts from ESPnet's leaf classes, or None when a part is one of the rarer ones."""
    if whisper := config.get("encoder") == "whisper":
        check_config(config)
    encoder_class = (
        WhisperEncoder if whisper else espnet.known_class("encoder", espnet.ENCODERS, config.get("encoder", "rnn"))
    )
    model_conf = config.get("model_conf") or {}
    weight = float(model_conf.get("ctc_weight", 0.5))
    decoder_class: type | None = None
    if weight < 1.0 and config.get("decoder"):
        known = espnet.known_class("decoder", espnet.DECODERS, config["decoder"])
        decoder_class = WhisperDecoder if config["decoder"] == "whisper" else known
        if decoder_class is None:
            return None
    if encoder_class is None or _rare_frontend(config) or config.get("preencoder") or config.get("postencoder"):
        return None
    if config.get("input_size") is not None and not whisper:
        raise UserError(
            "the model was trained on stored features (input_size is set), expected one that takes waveforms"
        )
    parts: dict[str, nn.Module | None] = {}
    parts["frontend"] = front = WhisperLogMel() if whisper else _frontend(config.get("frontend_conf"))
    parts["specaug"] = make_specaug(config.get("specaug_conf")) if config.get("specaug") else None
    parts["normalize"] = _normalize(config, front.output_size())
    encoder = _make("encoder", encoder_class, config.get("encoder_conf"), input_size=front.output_size())
    parts["encoder"] = encoder
    sizes = {"vocab_size": len(config["token_list"]), "encoder_output_size": encoder.output_size()}
    parts["decoder"] = _make("decoder", decoder_class, config.get("decoder_conf"), **sizes) if decoder_class else None
    if getattr(encoder, "interctc_use_conditioning", False):
        encoder.conditioning_layer = nn.Linear(sizes["vocab_size"], sizes["encoder_output_size"])
    parts["ctc"] = None
    if weight > 0.0:
        sizes = {"odim": sizes["vocab_size"], "encoder_output_size": sizes["encoder_output_size"]}
        parts["ctc"] = _make("ctc", espnet.ctc_head, config.get("ctc_conf"), **sizes)
    if model_kind(config) == "s2t_ctc":
        parts["prompt_encoder"] = _prompt_encoder(config)
    return parts


def _frontend(conf: Mapping[str, Any] | None) -> LogMelFrontend:
    return _make("frontend", LogMelFrontend, None, options=_make("frontend", LogMelOptions, conf))


def _prompt_encoder(config: Mapping[str, Any]) -> nn.Module:
    """What reads the previous text of an OWSM-CTC model."""
    conf = dict(config.get("promptencoder_conf") or {})
    kind = espnet.known_class("promptencoder", espnet.ENCODERS, config.get("promptencoder", "transformer"))
    if kind is None or "output_size" not in conf:
        raise UserError(
            "the config has no promptencoder_conf with an output_size, expected one as OWSM-CTC has; correct it"
        )
    return _make("promptencoder", kind, {**conf, "input_layer": None}, input_size=conf["output_size"])


def _rare_frontend(config: Mapping[str, Any]) -> bool:
    """True for a front end that is not log-mel, or that has speech enhancement switched on."""
    name = config.get("frontend") or "default"
    if name != "default":
        return espnet.known_class("frontend", {"default": ("", "")}, name) is None
    enhancement = (config.get("frontend_conf") or {}).get("frontend_conf") or {}
    return bool(enhancement.get("use_wpe") or enhancement.get("use_beamformer"))


def _normalize(config: Mapping[str, Any], size: int) -> nn.Module | None:
    name = config.get("normalize", None)
    if name is None:
        return None
    if name == "global_mvn":
        return _make("normalize", GlobalMVN, config.get("normalize_conf"), size=size)
    if name == "utterance_mvn":
        return _make("normalize", UtteranceMVN, config.get("normalize_conf"))
    raise UserError(
        f"the config names the normalize '{name}', which does not exist"
        f"{nearest(name, ['global_mvn', 'utterance_mvn'])} (known: global_mvn, utterance_mvn)"
    )


def make_specaug(conf: Mapping[str, Any] | None) -> nn.Module:
    """SpecAugment with ESPnet's options.

    Raises:
        UserError: there is no such option.
    """
    return _make("specaug", espnet.specaug, conf)


def _make(role: str, factory: Any, conf: Mapping[str, Any] | None, **fixed: Any) -> Any:
    try:
        return factory(**fixed, **(conf or {}))
    except UserError:
        raise
    except Exception as error:  # typeguard, assertions and ValueErrors of ESPnet: all are wrong options here
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the config's {role}_conf does not fit its {role}: {first}; correct config.yaml") from error


def read_token_list(tokens: Any) -> list[str]:
    """The token list of a config: inline, or the path of a file with a token a line.

    Raises:
        UserError: it is missing, empty or unreadable.
    """
    found: list[str] = []
    if isinstance(tokens, (list, tuple)):
        found = [str(token) for token in tokens]
    elif isinstance(tokens, str):
        try:
            # Cut at line feeds only: a token may be one of the characters at which `splitlines` cuts too.
            lines = Path(tokens).read_text(encoding="utf-8").removesuffix("\n").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the config's token_list file {tokens} cannot be read; put it there") from error
        found = [line.rstrip("\r").split(" ")[0] for line in lines] if lines != [""] else []
    else:
        raise UserError("the config has no token_list, expected a list of tokens or the path of a file with one a line")
    if not found:
        raise UserError(
            f"the config's token_list {tokens if isinstance(tokens, str) else ''} is empty, expected the tokens that the "
            "model was trained with; copy the list again"
        )
    return found


def model_kind(config: Mapping[str, Any]) -> str:
    """``asr``, ``s2t`` (OWSM: has a start-of-prompt token) or ``s2t_ctc`` (OWSM-CTC: encoder only)."""
    if config.get("encoder") == "e_branchformer_ctc":
        return "s2t_ctc"
    sop = (config.get("model_conf") or {}).get("sym_sop", "<sop>")
    return "s2t" if sop in config["token_list"] else "asr"


def special_tokens(config: Mapping[str, Any]) -> SpecialTokens:
    """The special ids of a token list, by ESPnet's rules and symbol names."""
    tokens: list[str] = config["token_list"]
    conf = config.get("model_conf") or {}
    s2t = model_kind(config) != "asr"
    index = {token: i for i, token in reversed(list(enumerate(tokens)))}
    blank = index.get(conf.get("sym_blank", "<blank>"), 0)
    sos = index.get(conf.get("sym_sos", "<sos>" if s2t else "<sos/eos>"), len(tokens) - 1)
    eos = index.get(conf.get("sym_eos", "<eos>" if s2t else "<sos/eos>"), len(tokens) - 1)
    unk = index.get("<unk>")
    # <space> is text (char models) and <unk> is an option of each decoder; every other <...> is a symbol.
    symbols = {i for i, t in enumerate(tokens) if is_symbol(t)}
    kept = {index[t] for t in ("<space>", "<unk>") if t in index}
    return SpecialTokens(blank, sos, eos, unk, tuple(sorted((symbols - kept) | {blank, sos, eos})))
