"""The network of a training: read, changed or made from scratch, with its tokenizer and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from parlab.data.audio import load_audio
from parlab.data.tokenizer import Tokenizer, build_tokenizer
from parlab.model.build import build_model
from parlab.model.features import GlobalMVN
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel

# Entries of a config whose change leaves the weights usable.
_STATS_UTTERANCES = 500


def make_network(
    init: str | None,
    network: Mapping[str, Any],
    tokenizer_options: Mapping[str, Any] | None,
    data: Any,
    folder: Path,
    strategy: Any,
) -> tuple[HybridModel, Tokenizer]:
    """Make the network and its tokenizer, the same on every rank.

    ``network`` replaces entries of the config of ``init``; dictionaries are merged. Weights whose name and
    shape stay are taken over; with a new tokenizer the embedding and the output layers are new.
    """
    old, tokenizer = read_model(init) if init else (None, None)
    if tokenizer is None or tokenizer_options:
        tokenizer = _tokenizer(dict(tokenizer_options or {}), data, folder, strategy)
    config: dict[str, Any] = dict(old.config) if old is not None else {}
    for key, value in network.items():
        both = isinstance(value, Mapping) and isinstance(config.get(key), Mapping)
        config[key] = {**config[key], **value} if both else value
    config |= {"token_list": list(tokenizer.token_list), "token_type": tokenizer.token_type}
    config["bpemodel"] = str(tokenizer.model_file) if tokenizer.model_file else None
    model = build_model(config)
    if old is not None:
        own = model.state_dict()
        kept = {k: v for k, v in old.state_dict().items() if k in own and own[k].shape == v.shape}
        model.load_state_dict({**own, **kept})
    elif isinstance(model.normalize, GlobalMVN):
        _fill_statistics(model, data)
    return model, tokenizer


def _tokenizer(options: dict[str, Any], data: Any, folder: Path, strategy: Any) -> Tokenizer:
    """Make the tokenizer on rank 0 and read it on all."""
    kind = options.pop("token_type", "bpe")
    tokens = folder / "tokens.txt"
    if strategy.is_global_zero and not tokens.is_file():
        build_tokenizer(data.training_texts(), kind, folder, **options)
    strategy.barrier("tokenizer")
    token_list = tokens.read_text(encoding="utf-8").splitlines()
    return Tokenizer(token_list, kind, folder / "bpe.model" if kind == "bpe" else None)


@torch.no_grad()
def _fill_statistics(model: HybridModel, data: Any) -> None:
    """Mean and standard deviation of the features, over a fixed sample of the training data."""
    assert isinstance(model.normalize, GlobalMVN) and model.frontend is not None
    utterances, _ = data.train_utterances()
    stride = max(1, len(utterances) // _STATS_UTTERANCES)
    count = 0
    total = square = torch.zeros(model.normalize.mean.numel(), dtype=torch.float64)
    for utterance in utterances[::stride]:
        wave = load_audio(utterance.audio, model.sample_rate, utterance.start, utterance.duration)
        features, _ = model.frontend(wave.unsqueeze(0), torch.tensor([len(wave)]))
        x = features[0].double()
        count, total, square = count + len(x), total + x.sum(0), square + x.square().sum(0)
    mean = total / count
    model.normalize.mean.copy_(mean)
    model.normalize.std.copy_((square / count - mean * mean).clamp(min=1e-20).sqrt())
