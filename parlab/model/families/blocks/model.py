"""Models of foreign families: a front end, an encoder and a decoder of ``blocks``, and their files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.decoder_spec import DecoderSpec
from parlab.model.families.blocks.decoder import Decoder
from parlab.model.hybrid import HybridModel
from parlab.model.losses import Losses
from parlab.text.s2t import S2TSymbols
from parlab.text.targets import Targets
from parlab.types import SpecialTokens


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

    def loss(self, speech: Tensor, lengths: Tensor, targets: Targets) -> Losses:
        """This model cannot be trained here.

        Raises:
            UserError: always.
        """
        raise UserError(no_training(self.family))


def no_training(family: str) -> str:
    """Why a model of a foreign family is not trained."""
    return (
        f"a {family} model can be decoded but not trained here, expected an ESPnet-format model; fine-tune it with {family} "
        "itself, whose folder `--model` reads"
    )


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
    symbols = {i for i, t in enumerate(tokens) if t.startswith("<") and t.endswith(">") and len(t) > 2}
    kept = {i for i, t in enumerate(tokens) if t in ("<space>", "<unk>")}
    unk = tokens.index("<unk>") if "<unk>" in tokens else None
    return SpecialTokens(blank, sos, eos, unk, tuple(sorted((symbols - kept) | {blank, sos, eos})))
