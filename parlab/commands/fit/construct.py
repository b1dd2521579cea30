"""The network of a training: read, changed or made from scratch, with its tokenizer and statistics."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from parlab.data.audio import load_audio
from parlab.data.utterance import Utterance
from parlab.errors import UserError, nearest
from parlab.model.families.blocks.model import BlockModel
from parlab.model.families.espnet_build import build_model
from parlab.model.families.layouts import origin_of
from parlab.model.families.openai.taken_over import take_over_whisper
from parlab.model.families.whisper_model import NO_TRAINING
from parlab.model.features import GlobalMVN
from parlab.model.folder import read_model
from parlab.model.hybrid import HybridModel
from parlab.text.byte_bpe import ByteBPE
from parlab.text.tokenizer import Tokenizer, build_tokenizer

_STATS_UTTERANCES = 500  # enough for a mean and a standard deviation of each mel band
_TOKENIZER_OPTIONS = ("token_type", "vocab_size", "symbols", "path")
# Parameters with an entry per token: another token list makes their rows meaningless, whatever their shape.
_PER_TOKEN = (
    "decoder.embed.0.",
    "decoder.output_layer.",
    "decoder.decoders.token_embedding.",
    "ctc.ctc_lo.",
    "encoder.conditioning_layer.",
)


class TrainingTexts(Protocol):
    """A data module, asked for training texts only where they are needed."""

    def training_texts(self) -> list[str]:
        """References of the training data."""
        ...


class TrainingData(TrainingTexts, Protocol):
    """The data module, asked for training audio only where it is needed.

    Attributes:
        broken: ``skip`` or ``raise``, for files that cannot be loaded.
    """

    broken: str

    def train_utterances(self) -> tuple[list[Utterance], list[float]]:
        """Training utterances and the weight of each."""
        ...


class Ranks(Protocol):
    """The processes of a training (Lightning's strategy)."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this process is the first."""
        ...

    def barrier(self, name: str | None = None) -> None:
        """Wait for all processes."""
        ...


@dataclass(frozen=True)
class NetworkOptions:
    """What a training starts from.

    Attributes:
        init: a model to fine-tune, or None.
        network: ESPnet's configuration, or the entries of it that replace those of ``init``; dictionaries are merged.
        tokenizer: of ``make_tokenizer``; None keeps that of ``init``.
    """

    init: str | None
    network: Mapping[str, Any]
    tokenizer: Mapping[str, Any] | None


def make_network(
    options: NetworkOptions,
    data: TrainingData,
    folder: Path,
    ranks: Ranks,
    start: tuple[HybridModel, Tokenizer] | None = None,
) -> tuple[HybridModel, Tokenizer]:
    """Make the network and its tokenizer, the same on every rank.

    Weights of ``init`` whose name and shape stay are taken over; with another token list the embedding and the output
    layers are new. Of a Whisper model the encoder is, and the decoder where the new one is a Whisper's too. A model of another family stays
    as it is.

    Args:
        folder: where a new tokenizer is written, or found when a run goes on.
        start: the model ``init``, where it has been read already.

    Raises:
        UserError: the configuration names no encoder, or does not fit; ``init`` cannot be trained here.
    """
    old, own = start or (read_model(options.init) if options.init else (None, None))
    if isinstance(old, BlockModel) and own is not None:
        if options.tokenizer:
            raise UserError(
                f"model.tokenizer is given, but a {old.family} model keeps that of its folder; leave it out, or train an ESPnet model"
            )
        old.came_from(origin_of(old))  # its files, which the training writes again, may be gone by then
        old.trainable(options.network)
        return old, own
    from_whisper = old is not None and old.kind == "whisper"
    if from_whisper and options.network.get("encoder") != "whisper":
        raise UserError(NO_TRAINING)
    if from_whisper and not options.tokenizer:
        raise UserError(
            "model.init is a Whisper model, whose tokens are too many for a CTC head, expected a tokenizer of this training's own; add "
            "model.tokenizer"
        )
    tokenizer = own
    if tokenizer is None or options.tokenizer:
        tokenizer = make_tokenizer(dict(options.tokenizer or {}), data, folder, ranks)
    config: dict[str, Any] = dict(old.config) if old is not None and not from_whisper else {}
    for key, value in options.network.items():
        both = isinstance(value, Mapping) and isinstance(config.get(key), Mapping)
        config[key] = {**config[key], **value} if both else value
    if not config.get("encoder"):
        raise UserError("model.network names no encoder, expected one such as 'conformer'; add it, or give model.init")
    config |= {"token_list": list(tokenizer.token_list), "token_type": tokenizer.token_type}
    config["bpemodel"] = str(tokenizer.model_file) if tokenizer.model_file else None
    model = build_model(config)
    known_statistics = False
    if old is not None and from_whisper:
        assert isinstance(own, ByteBPE), "a Whisper folder has one"
        take_over_whisper(model, old, own)
    elif old is not None:
        known_statistics = isinstance(old.normalize, GlobalMVN)
        take_over(model, old)
    if isinstance(model.normalize, GlobalMVN) and not known_statistics and not _has_statistics(config):
        fill_statistics(model, data)
    return model, tokenizer


def take_over(model: HybridModel, old: HybridModel) -> list[str]:
    """Copy the weights of ``old`` that fit; return the names in ``model`` that stay new."""
    own, given = model.state_dict(), old.state_dict()
    same_tokens = model.token_list == old.token_list
    kept = {
        name: value
        for name, value in given.items()
        if name in own and own[name].shape == value.shape and (same_tokens or not name.startswith(_PER_TOKEN))
    }
    model.load_state_dict({**own, **kept})
    return [name for name in own if name not in kept]


def make_tokenizer(options: dict[str, Any], data: TrainingTexts, folder: Path, ranks: Ranks) -> Tokenizer:
    """Read the tokenizer that ``path`` names, or make one from the training texts on rank 0 and read it on all.

    Raises:
        UserError: an unknown option, or no tokenizer at ``path``.
    """
    for name in options:
        if name not in _TOKENIZER_OPTIONS:
            raise UserError(
                f"model.tokenizer has no option '{name}'{nearest(name, _TOKENIZER_OPTIONS)} "
                f"(it has {', '.join(_TOKENIZER_OPTIONS)})"
            )
    kind = str(options.pop("token_type", "bpe"))
    path = options.pop("path", None)
    if path is not None:
        return read_tokenizer(Path(path), kind)
    # A run that goes on keeps its tokenizer; another run in the same folder makes its own.
    made_from = folder / "options.json"
    description = json.dumps({"token_type": kind, **options}, sort_keys=True)
    if ranks.is_global_zero and not (made_from.is_file() and made_from.read_text(encoding="utf-8") == description):
        build_tokenizer(data.training_texts(), kind, folder, **options)
        made_from.write_text(description, encoding="utf-8")
    ranks.barrier("tokenizer")
    return read_tokenizer(folder, kind)


def read_tokenizer(folder: Path, kind: str) -> Tokenizer:
    """The tokenizer of a folder with ``tokens.txt`` (and ``bpe.model``), as a run's ``tokenizer/``."""
    tokens = folder / "tokens.txt"
    if not tokens.is_file():
        raise UserError(f"there is no tokenizer in {folder}, expected tokens.txt (and bpe.model); check the path")
    token_list = tokens.read_text(encoding="utf-8").splitlines()
    return Tokenizer(token_list, kind, folder / "bpe.model" if kind == "bpe" else None)


def _has_statistics(config: Mapping[str, Any]) -> bool:
    return bool((config.get("normalize_conf") or {}).get("stats_file"))


@torch.no_grad()
def fill_statistics(model: HybridModel, data: TrainingData) -> None:
    """Mean and standard deviation of the features, over a fixed sample of the training data."""
    assert isinstance(model.normalize, GlobalMVN) and model.frontend is not None
    utterances, _ = data.train_utterances()
    stride = max(1, len(utterances) // _STATS_UTTERANCES)
    count = 0
    total = square = torch.zeros(model.normalize.mean.numel(), dtype=torch.float64)
    for utterance in utterances[::stride]:
        try:
            wave = load_audio(utterance.audio, model.sample_rate, utterance.start, utterance.duration)
        except UserError:
            if data.broken == "raise":
                raise
            continue  # the training says so when it comes to it
        features, _ = model.frontend(wave.unsqueeze(0), torch.tensor([len(wave)]))
        x = features[0].double()
        count, total, square = count + len(x), total + x.sum(0), square + x.square().sum(0)
    if count == 0:
        raise UserError(
            f"none of {len(utterances[::stride])} audio files of the training data can be loaded, as "
            f"{utterances[0].audio}, expected audio; correct the data"
        )
    mean = total / count
    model.normalize.mean.copy_(mean)
    model.normalize.std.copy_((square / count - mean * mean).clamp(min=1e-20).sqrt())


@contextmanager
def trial_folder(trainer: Any) -> Iterator[str]:
    """A folder for a trial that leaves nothing behind, the same for all ranks."""
    with tempfile.TemporaryDirectory() as own:
        yield trainer.strategy.broadcast(own)
        trainer.strategy.barrier("trial")


def describe(net: HybridModel) -> str:
    """One line about a network."""
    total = sum(p.numel() for p in net.parameters())
    trained = sum(p.numel() for p in net.parameters() if p.requires_grad)
    return f"model: {total:,} parameters, {trained:,} of them trained ({trained / total:.1%}), {net.vocab_size} tokens"
