"""Whisper models in the Hugging Face layout: config, weights, tokenizer, and the defaults of decoding.

``config.json``; ``model.safetensors`` or ``pytorch_model.bin``, in one file or with an index of several; ``tokenizer.json``,
or ``vocab.json`` and ``merges.txt``; and where they are there ``generation_config.json`` and ``preprocessor_config.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import Tensor

from parlab.errors import UserError
from parlab.model.families import whisper
from parlab.model.families.weights import load_weights, read_safetensors, read_weights
from parlab.model.families.whisper_model import WhisperFeatures, WhisperFrontend, WhisperModel
from parlab.model.hybrid import HybridModel
from parlab.text.byte_bpe import ByteBPE
from parlab.text.tokenizer import Tokenizer
from parlab.text.whisper import RESOLUTION, WhisperText
from parlab.types import SpecialTokens

_ENGLISH_ONLY = 51864  # OpenAI's rule: a multilingual vocabulary has more entries
_TIMES = 1501  # from 0 to 30 s
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def is_hugging_face(path: Path) -> bool:
    """Whether a folder is in the Hugging Face layout and none of ESPnet's."""
    return path.is_dir() and (path / "config.json").is_file() and not (path / "config.yaml").is_file()


def read_folder(path: Path) -> tuple[HybridModel, Tokenizer]:
    """Read a Whisper model and its tokenizer, in evaluation mode, in float32, on the CPU.

    Raises:
        UserError: it is another model, or config, weights and tokenizer are missing or do not fit together.
    """
    # 1. What the folder says.
    entries = _read_json(path / "config.json")
    if entries.get("model_type") != "whisper":
        raise UserError(
            f"{path} holds a model of type '{entries.get('model_type')}', expected 'whisper' (or an ESPnet-format folder); name "
            "another model"
        )
    config = whisper.read_config(entries)
    generation = _read_json(path / "generation_config.json") if (path / "generation_config.json").is_file() else entries
    features = _features(path, config)
    # 2. Text: the tokenizer, and the symbols and rules of the decoder.
    tokenizer = _tokenizer(path, config.vocab_size)
    text = _text(config, generation, tokenizer)
    special = SpecialTokens(blank=text.eos, sos=text.sos, eos=text.eos, never=text.never())
    # 3. The network and its weights.
    encoder, decoder = whisper.empty_parts(config)
    own = {"token_list": tokenizer.token_list, "token_type": tokenizer.token_type, "model_conf": {"ctc_weight": 0.0}}
    parts = {"frontend": WhisperFrontend(features), "encoder": encoder, "decoder": decoder}
    model = WhisperModel(own, special, parts, text.symbols())
    state, source = _state(path, tied="proj_out.weight" not in dict(decoder.named_parameters()))
    load_weights(model, state, source)
    return model.eval(), tokenizer


# ---- files ------------------------------------------------------------------------------------------


def _read_json(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({str(error)[:100]}); copy it again") from error
    if not isinstance(entries, dict):
        raise UserError(f"{path} holds no mapping, expected one of options; copy it again")
    return entries


def _features(path: Path, config: Any) -> WhisperFeatures:
    """The front end's options; one that does not fit the encoder is refused."""
    file = path / "preprocessor_config.json"
    whole = path / "processor_config.json"  # what transformers 5 writes
    entries = _read_json(file) if file.is_file() else {"feature_size": config.num_mel_bins}
    if not file.is_file() and whole.is_file():
        file, entries = whole, _read_json(whole).get("feature_extractor") or entries
    chosen = {f.name: entries[f.name] for f in fields(WhisperFeatures) if f.name in entries}
    if wrong := [name for name, value in chosen.items() if type(value) is not int or value < 1]:
        raise UserError(f"{file}: {wrong[0]} is {chosen[wrong[0]]!r}, expected a whole number above 0; copy it again")
    features = WhisperFeatures(**chosen)
    if features.feature_size != config.num_mel_bins:
        raise UserError(
            f"{file} makes {features.feature_size} mel bands, but the encoder reads {config.num_mel_bins}; take both files from the "
            "same model"
        )
    frames = features.chunk_length * features.sampling_rate // features.hop_length
    if frames != 2 * config.max_source_positions:
        raise UserError(
            f"{file} makes {frames} frames of a window, but the encoder reads {2 * config.max_source_positions}; take both files "
            "from the same model"
        )
    return features


def _tokenizer(path: Path, size: int) -> ByteBPE:
    """The tokenizer, with the time symbols that older files do not name."""
    file = path / "tokenizer.json"
    if file.is_file():
        spec = file.read_bytes()
    elif (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
        spec = _older_tokenizer(path)
    else:
        raise UserError(
            f"{path} has no tokenizer, expected tokenizer.json (or vocab.json and merges.txt) beside config.json; copy it from the "
            "model that this one was trained from"
        )
    times = [] if b'"<|0.00|>"' in spec else [f"<|{i * RESOLUTION:.2f}|>" for i in range(_TIMES)]
    return ByteBPE(spec, size, times)


def _older_tokenizer(path: Path) -> bytes:
    """``vocab.json``, ``merges.txt`` and ``added_tokens.json`` as a ``tokenizer.json``."""
    vocabulary = _read_json(path / "vocab.json")
    added = _read_json(path / "added_tokens.json") if (path / "added_tokens.json").is_file() else {}
    symbols = {**{t: i for t, i in vocabulary.items() if t.startswith("<|") and t.endswith("|>")}, **added}
    lines = (path / "merges.txt").read_text(encoding="utf-8").splitlines()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": t, **flags} for t, i in sorted(symbols.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": vocabulary,
            "merges": [line for line in lines if line and not line.startswith("#version")],
        },
    }
    return json.dumps(spec).encode()


def _text(config: Any, generation: Mapping[str, Any], tokenizer: ByteBPE) -> WhisperText:
    """What config and generation_config say about text; ids come from the tokenizer where it names them."""
    index = tokenizer.index
    sos = index.get("<|startoftranscript|>", config.decoder_start_token_id)
    eos = index.get("<|endoftext|>", config.eos_token_id)
    if not all(isinstance(i, int) and i < config.vocab_size for i in (sos, eos)):
        raise UserError(
            f"the tokenizer's <|startoftranscript|> is {sos} and its <|endoftext|> {eos}, but the model knows {config.vocab_size} "
            "tokens; take config and tokenizer from the same model"
        )
    multilingual = generation.get("is_multilingual", config.vocab_size > _ENGLISH_ONLY)
    language = generation.get("language") or _forced_language(generation, tokenizer)
    return WhisperText(
        index=index,
        eos=eos,
        sos=sos,
        vocabulary=config.vocab_size,
        multilingual=bool(multilingual),
        language=language if isinstance(language, str) and multilingual else None,
        names=whisper.language_names() if multilingual else {},
        suppressed=_ids(generation, "suppress_tokens", config.vocab_size),
        begin_suppressed=_ids(generation, "begin_suppress_tokens", config.vocab_size),
        max_initial_time=_count(generation, "max_initial_timestamp_index"),
        window_seconds=2 * config.max_source_positions * 0.01,
        max_positions=config.max_target_positions,
    )


def _forced_language(generation: Mapping[str, Any], tokenizer: ByteBPE) -> str | None:
    """The language in ``forced_decoder_ids`` ([[1, language], [2, task], ...]), as models of older transformers have it."""
    forced = generation.get("forced_decoder_ids")
    pairs = [pair for pair in forced if isinstance(pair, list) and len(pair) == 2] if isinstance(forced, list) else []
    ids = [i for place, i in pairs if place == 1 and type(i) is int and 0 <= i < len(tokenizer.raw)]
    return tokenizer.raw[ids[0]] if ids else None


def _ids(generation: Mapping[str, Any], name: str, size: int) -> list[int] | None:
    """A list of token ids, or None where there is none; ids that the model lacks have no effect in transformers either."""
    ids = generation.get(name)
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise UserError(f"{name} is {str(ids)[:60]}, expected a list of ids; copy the model's JSON files again")
    return [i for i in ids if 0 <= i < size]


def _count(generation: Mapping[str, Any], name: str) -> int | None:
    """A whole number from 0, or None where there is none."""
    value = generation.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise UserError(f"{name} is {value!r}, expected a whole number from 0; copy the model's JSON files again")
    return value


# ---- weights ----------------------------------------------------------------------------------------


def _state(path: Path, tied: bool) -> tuple[dict[str, Tensor], Path]:
    """The weights under our names (transformers' without ``model.``), and the file that they come from."""
    source = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
    if source is None:
        raise UserError(f"{path} holds no weights, expected model.safetensors or pytorch_model.bin; download it again")
    files = [source]
    if source.name.endswith(".index.json"):
        names = _read_json(source).get("weight_map")
        files = [path / name for name in sorted(set(names.values()))] if isinstance(names, dict) else []
        if not files or (absent := [file for file in files if not file.is_file()]):
            lacking = "no 'weight_map'" if not files else f"{absent[0].name}, which is not there"
            raise UserError(f"{source} names {lacking}; download the model again")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_safetensors(file) if file.suffix == ".safetensors" else read_weights(file)
    state = {name.removeprefix("model."): value for name, value in state.items()}
    output = state.pop("proj_out.weight", None)
    if not tied and output is not None:
        state["decoder.proj_out.weight"] = output
    return state, source
