"""Batches of states from a store, and the masks that are laid over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from parlab.commands.fit.head.states import StateStore, state_key
from parlab.data.examples import Item
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.model.features import padding_mask
from parlab.text.padding import pad_tokens
from parlab.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class StateMasks:
    """Random masks, after SpecAugment (Park et al. 2019), on what the head reads; masked values become the utterance's mean.

    Attributes:
        time_masks: runs of frames that are masked in an utterance.
        time_share: longest run, a share of the utterance's frames.
        feature_masks: runs of features that are masked.
        feature_share: longest run, a share of the features.

    Raises:
        UserError: a number makes no sense.
    """

    time_masks: int = 4
    time_share: float = 0.05
    feature_masks: int = 2
    feature_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("time_masks", "feature_masks"):
            if getattr(self, name) < 0:
                raise UserError(f"model.masks.{name} is {getattr(self, name)}, expected 0 or more; correct it")
        for name in ("time_share", "feature_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(
                    f"model.masks.{name} is {getattr(self, name)}, expected a share from 0 to 1; correct it"
                )

    def __call__(self, states: Tensor, frames: Tensor) -> Tensor:
        """States (B, T, D) of ``frames`` (B,), masked."""
        size, width = states.shape[1:]
        inside = ~padding_mask(frames, size)
        mean = (states * inside.unsqueeze(2)).sum(1, keepdim=True) / frames.view(-1, 1, 1)
        hidden = _runs(frames, self.time_masks, self.time_share, size).unsqueeze(2)
        hidden = hidden | _runs(
            torch.full_like(frames, width), self.feature_masks, self.feature_share, width
        ).unsqueeze(1)
        return torch.where(hidden, mean, states)


def _runs(lengths: Tensor, count: int, share: float, size: int) -> Tensor:
    """``count`` random runs within each of ``lengths`` (B,), as (B, size)."""
    draws = torch.rand(2, len(lengths), count, 1, device=lengths.device)
    limits = lengths.view(-1, 1, 1)
    width = draws[0] * share * limits
    start = draws[1] * (limits - width)
    index = torch.arange(size, device=lengths.device)
    return ((index >= start) & (index < start + width)).any(1)


@dataclass(frozen=True)
class HeadBatch:
    """B utterances that a head learns from, or is tried on.

    Attributes:
        states: (B, T, D) float16, what the head reads; ``frames`` (B,).
        targets: (B, U) labels in the head's tokens, padded with -1; ``target_lengths`` (B,).
        utterances: them, in order.
    """

    states: Tensor
    frames: Tensor
    targets: Tensor
    target_lengths: Tensor
    utterances: list[Utterance]

    def to(self, device: torch.device) -> HeadBatch:
        """The batch on a device."""
        names = ("states", "frames", "targets", "target_lengths")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def seconds(self) -> float:
        """Seconds of audio, at speed 1."""
        return sum(u.duration or 0.0 for u in self.utterances)


class StateSet(Dataset[HeadBatch]):
    """Reads lists of items as batches; the sampler yields the lists.

    Args:
        tokenizer: of the head; a label that it cannot spell, or none, is an empty target.
    """

    def __init__(self, utterances: Sequence[Utterance], tokenizer: Tokenizer, store: StateStore):
        self.utterances, self.store = list(utterances), store
        self.targets = [spell(tokenizer, u.text) for u in self.utterances]

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, items: Sequence[Item]) -> HeadBatch:
        indices = [item.parts[0] for item in items]
        found = [self._states(self.utterances[i], item.speed) for i, item in zip(indices, items, strict=True)]
        states = np.zeros((len(found), max(map(len, found)), self.store.width), np.float16)
        for i, each in enumerate(found):
            states[i, : len(each)] = each
        targets, lengths = pad_tokens([self.targets[i] for i in indices], padding=-1)
        frames = torch.tensor([len(each) for each in found])
        return HeadBatch(torch.from_numpy(states), frames, targets, lengths, [self.utterances[i] for i in indices])

    def _states(self, utterance: Utterance, speed: float) -> np.ndarray:
        """The states at a speed, or at speed 1 where the slower audio would not fit the window."""
        key = state_key(utterance, speed)
        return self.store.read(key if key in self.store else state_key(utterance, 1.0))


def spell(tokenizer: Tokenizer, text: str | None) -> list[int]:
    """The ids of a label; none where it has none that the vocabulary can spell."""
    return [] if not text or tokenizer.unspellable(text) else tokenizer.encode(text)
