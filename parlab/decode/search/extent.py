"""How much the hypotheses of a search write: what ends too early, and what has run on for too long."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.transfer import to_device


@dataclass(frozen=True)
class Extent:
    """Bounds on what the hypotheses of G groups write.

    Attributes:
        sizes: (V,) how much each token writes.
        least: (G,) what a hypothesis must have written to end.
        most: (G,) with more it is dropped, unless its group has no other.
        end: the token that ends a text, which is never written.
        goes_on: whether a stop token that comes too early is a token like others; else that hypothesis is dropped.
    """

    sizes: Tensor
    least: Tensor
    most: Tensor
    end: int
    goes_on: bool

    def to(self, device: torch.device) -> Extent:
        """The bounds of the host on a device, by one copy."""
        sizes, least, most = to_device(device, self.sizes, self.least, self.most)
        return replace(self, sizes=sizes, least=least, most=most)

    def select(self, groups: Tensor) -> Extent:
        """The bounds of the groups ``groups`` (n,)."""
        return replace(self, least=self.least[groups], most=self.most[groups])

    def divide(
        self, tokens: Tensor, newest: Tensor, step: int | Tensor, stopped: Tensor, live: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Which hypotheses end and which live on, of those that ``stopped`` (G, K) and those that are ``live`` (G, K).

        Args:
            tokens: (G, K, L) of the hypotheses, the ``newest`` (G, K) that of ``step``.

        Returns:
            both again, and the groups (G, 1) whose live hypotheses have all written too much.
        """
        # 1. What each wrote before its newest token. A stop token that comes too early ends nothing.
        position = torch.arange(tokens.size(2), device=tokens.device)
        written = torch.where(position < step, self.sizes[tokens], 0).sum(2)
        early = stopped & (written < self.least.unsqueeze(1))
        stopped = stopped & ~early
        if self.goes_on:
            live = live | (early & (newest != self.end))
        # 2. Those that wrote too much go where there are others.
        within = live & (written + self.sizes[newest] <= self.most.unsqueeze(1))
        some = within.any(1, keepdim=True)
        return stopped, torch.where(some, within, live), ~some & live.any(1, keepdim=True)
