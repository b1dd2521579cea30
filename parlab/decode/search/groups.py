"""The sequences that a search looks for, and its options."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.search.extent import Extent
from parlab.transfer import to_device


@dataclass(frozen=True)
class Groups:
    """The G sequences to find.

    Attributes:
        stop: (G,) token that ends a hypothesis of the group.
        max_length: (G,) tokens that a hypothesis may have, the stop token included when it is emitted.
        min_length: (G,) tokens before the stop token counts, or None.
        bound: (G,) score that a hypothesis must beat to matter (the draft's), or None.
        longest: the largest ``max_length``, where the host knows it.
        owner: (G,) utterance of each group, sorted, on the host; None: every group has its own.
        extent: bounds on what a hypothesis writes, or None.
    """

    stop: Tensor
    max_length: Tensor
    min_length: Tensor | None = None
    bound: Tensor | None = None
    longest: int | None = None
    owner: Tensor | None = None
    extent: Extent | None = None

    def on_device(self, device: torch.device) -> Groups:
        """Groups whose numbers lie on the host, taken to the device by one copy; ``bound`` lies there already."""
        least = torch.zeros_like(self.max_length) if self.min_length is None else self.min_length
        stop, limit, least = to_device(device, self.stop, self.max_length, least)
        longest = int(self.max_length.max()) if len(self.max_length) else 0
        extent = None if self.extent is None else self.extent.to(device)
        return Groups(stop, limit, None if self.min_length is None else least, self.bound, longest, self.owner, extent)

    @property
    def steps(self) -> int:
        """Steps that a search takes at most."""
        if self.longest is not None:
            return self.longest
        return int(self.max_length.max()) if len(self.stop) else 0


@dataclass(frozen=True)
class BeamOptions:
    """Widths of a search, and its rules of ending.

    Attributes:
        beam_size: live hypotheses per group.
        nbest: ended hypotheses kept per group.
        banned: ids that are never emitted (unless one is the group's stop token).
        normalize_length: rank ended hypotheses by score per token, the stop token included.
        force_all: at ``max_length`` every live hypothesis ends (ESPnet's AR), not only the best one of a group
            that has none (PAR).
        end_detection: stop a group when three lengths in a row ended 10 nats below the best (ESPnet's AR). Its
            value is how many steps back the newest of the three lies: ESPnet compares lengths that count the
            prompt and ``<eos>`` with the number of steps, so it is the prompt's length plus one; 0 is off.
        pre_beam_ratio: candidates per row for candidate scorers, as a multiple of the beam.
        refill: transformers' beam: the next best take the places of those that end; a group is done when all ``nbest`` (at
            least the beam) have ended and none live ranks higher, by score per token (``normalize_length``).
    """

    beam_size: int
    nbest: int = 1
    banned: tuple[int, ...] = ()
    normalize_length: bool = False
    force_all: bool = False
    end_detection: int = 0
    pre_beam_ratio: float = 1.5
    refill: bool = False

    @property
    def width(self) -> int:
        """Continuations of a group that a step chooses; with ``refill`` all of the beam may end."""
        return self.beam_size * (2 if self.refill else 1)
