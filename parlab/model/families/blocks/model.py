"""Models of foreign families: a front end, an encoder and a decoder of ``blocks``, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from parlab.errors import UserError, nearest
from parlab.model.decoder_spec import DecoderSpec
from parlab.model.families.blocks.decoder import Decoder
from parlab.model.families.blocks.origin import Origin
from parlab.model.families.espnet_build import make_specaug
from parlab.model.hybrid import HybridModel
from parlab.text.s2t import S2TSymbols
from parlab.text.tokenizer import is_symbol
from parlab.types import SpecialTokens

# What a training may change: weights of the losses, and SpecAugment.
_CHANGED = ("model_conf", "specaug", "specaug_conf")
_LOSSES = ("ctc_weight", "lsm_weight", "length_normalized_loss", "reverse_weight")


class BlockModel(HybridModel):
    """A hybrid model of our own blocks.

    Args:
        family: the toolkit's name, as ``"WeNet"``.
        config: ``token_list``, ``token_type``, and ``model_conf`` with the ``ctc_weight`` of its training.
        special: ids with a meaning of their own.
        parts: ``frontend``, ``normalize``, ``encoder``, ``decoder`` (a ``Decoder``) and ``ctc``.
    """

    # 6 parameters: those of HybridModel, and the family.
    def __init__(
        self,
        family: str,
        config: Mapping[str, Any],
        special: SpecialTokens,
        parts: Mapping[str, nn.Module | None],
        s2t: S2TSymbols | None = None,
    ):
        super().__init__(config, special, parts, family.lower(), s2t)
        self.family = family
        self.source: Path | Origin | None = None

    def decoder_spec(self) -> DecoderSpec:
        assert isinstance(self.decoder, Decoder)
        return self.decoder.spec()

    @cached_property
    def min_samples(self) -> int:
        """Samples below which an utterance is too short for the front end and the subsampling."""
        size, hop = int(getattr(self.frontend, "win_length", 400)), int(getattr(self.frontend, "hop_length", 160))
        frames = 1
        while self.encoder.subsampled_lengths(frames) < 1:
            frames += 1
        return size + frames * hop  # a frame more: one encoder frame is no utterance

    def came_from(self, source: Path | Origin) -> None:
        """Remember the folder that the model was read from, whose layout it is written in again."""
        self.source = source

    def trainable(self, network: Mapping[str, Any]) -> None:
        """Make ready for a training: every parameter in training mode, but those that no loss reaches.

        Args:
            network: entries beside the folder's: ``model_conf`` (weights of the losses), ``specaug`` and ``specaug_conf`` as ESPnet's.

        Raises:
            UserError: another entry, or a value that is none.
        """
        for name, value in network.items():
            if name not in _CHANGED:
                raise UserError(
                    f"model.network has '{name}', but a {self.family} model keeps the network of its folder, expected "
                    f"{', '.join(_CHANGED)}{nearest(name, _CHANGED)}; leave it out"
                )
            if name.endswith("_conf") and not isinstance(value, Mapping):
                raise UserError(
                    f"model.network.{name} is {str(value)[:60]!r}, expected options with values; correct it"
                )
        self.config = {**self.config, "model_conf": self._losses(network.get("model_conf", {}))}
        if (kind := network.get("specaug")) not in (None, "specaug"):
            raise UserError(f"model.network.specaug is '{kind}', expected specaug; correct it")
        if kind is not None:
            self.specaug = make_specaug(network.get("specaug_conf"))
        self.requires_grad_(True).train()
        weight = float(self.config["model_conf"].get("ctc_weight", 0.5))
        for part in (self.ctc if weight == 0.0 else None, self.decoder if weight == 1.0 else None):
            if part is not None:
                part.requires_grad_(False)

    def _losses(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The weights of the losses, with changes."""
        for name, value in changes.items():
            if name not in _LOSSES:
                raise UserError(
                    f"model.network.model_conf has '{name}', expected {', '.join(_LOSSES)}{nearest(name, _LOSSES)}; correct it"
                )
            if not isinstance(value, bool if name == "length_normalized_loss" else (int, float)) or not 0 <= value <= 1:
                raise UserError(
                    f"model.network.model_conf.{name} is {value!r}, expected a share from 0 to 1; correct it"
                )
        found = {**self.config["model_conf"], **changes}
        if self.ctc is None and found.get("ctc_weight", 0.0) > 0.0:
            raise UserError(
                f"model_conf.ctc_weight is {found['ctc_weight']}, but this {self.family} model has no CTC head, expected 0; leave it out"
            )
        return found


def inside(folder: Path, name: str | None, what: str, *usual: str) -> Path | None:
    """A file of a model's folder: the one that its config names, by its last part alone, or the first of its usual names.

    Paths of a training lead elsewhere; nothing outside of the folder is read.

    Args:
        name: as the config names it, or None.
        what: it is, for errors.
        usual: patterns of the usual names, best first.

    Returns:
        The path, or None where the config names none and none is there.

    Raises:
        UserError: the config names one that is not in the folder, or several files have the usual name.
    """
    if name:
        own = folder / Path(str(name).replace("\\", "/")).name
        if own.is_file():
            return own
    for pattern in usual:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:4])
            raise UserError(
                f"{folder} holds {len(found)} files for the {what} ({names}), expected one; leave one there"
            )
        if found:
            return found[0]
    if name:
        raise UserError(
            f"the config names {str(name)[:80]} as {what}, but {folder} has no file {Path(str(name)).name}, expected it there (no path "
            "outside of the folder is read); put it beside the config"
        )
    return None


def special_tokens(tokens: list[str], blank: int, sos: int, eos: int) -> SpecialTokens:
    """Special ids of a token list: every ``<...>`` but ``<space>`` and ``<unk>`` is a symbol that no text has.

    Raises:
        UserError: an id is not in the list.
    """
    if wrong := [i for i in (blank, sos, eos) if not (type(i) is int and 0 <= i < len(tokens))]:
        raise UserError(
            f"the config gives a special token the id {wrong[0]!r}, but the token list has {len(tokens)} entries; take both from "
            "the same model"
        )
    symbols = {i for i, t in enumerate(tokens) if is_symbol(t)}
    kept = {i for i, t in enumerate(tokens) if t in ("<space>", "<unk>")}
    unk = tokens.index("<unk>") if "<unk>" in tokens else None
    return SpecialTokens(blank, sos, eos, unk, tuple(sorted((symbols - kept) | {blank, sos, eos})))
