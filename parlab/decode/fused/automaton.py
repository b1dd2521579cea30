"""The interface of automata that score texts token by token: states are numbers, so that N rows advance by a few look-ups."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.text.padding import pad_tokens
from parlab.transfer import to_device

TokenRows = Sequence[Sequence[int]]
ROOT = 0  # the state after a text of which nothing matters


def file_stamp(path: str) -> tuple[int, int]:
    """What changes when a file is written again.

    Raises:
        UserError: there is none.
    """
    try:
        status = os.stat(Path(path).expanduser())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}), expected a file; correct the path") from error
    return status.st_mtime_ns, status.st_size


class Automaton(ABC):
    """Tables on a device. No dataclass: a graph of a search refers to it as to a model, and copies none of it.

    Attributes:
        memory: a state depends on the last so many tokens only.
        begin: the state before the first token of a text.
        device: of the tables.
        on_host: whether each look-up waits for the host, so that no search in fixed shapes and no graph can have it.
    """

    memory: int
    begin: int
    device: torch.device
    on_host: bool = False

    @abstractmethod
    def gains(self, state: Tensor, tokens: Tensor) -> Tensor:
        """What each of ``tokens`` (N, C) adds to the score after ``state`` (N,): (N, C)."""

    @abstractmethod
    def step(self, state: Tensor, tokens: Tensor) -> Tensor:
        """The state (N,) after one more token (N,)."""

    def after(self, rows: TokenRows) -> Tensor:
        """The state (N,) after each row of tokens, each the beginning of a text; one copy to the device."""
        first = torch.tensor([ROOT if len(row) > self.memory else self.begin for row in rows], dtype=torch.long)
        newest = [row[max(len(row) - self.memory, 0) :] for row in rows]
        tokens, lengths, state = to_device(self.device, *pad_tokens(newest), first)
        for i in range(tokens.size(1)):
            state = torch.where(i < lengths, self.step(state, tokens[:, i]), state)
        return state

    def along(self, state: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What ``tokens`` (N, L), of which ``lengths`` (N,) count, add after ``state`` (N,): (N,); and the state after them."""
        total = torch.zeros(len(state), device=state.device)
        for i in range(tokens.size(1)):
            counted = i < lengths
            gain = self.gains(state, tokens[:, i : i + 1]).squeeze(1)
            total = total + gain.masked_fill(~counted, 0.0)
            state = torch.where(counted, self.step(state, tokens[:, i]), state)
        return total, state
