"""What the decoder, after a pass over texts, thinks of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from parlab.decode.filling.text import Text, token_scores
from parlab.decode.filling.written import Spot
from parlab.decode.prefill import Prefill
from parlab.decode.segments import Segments
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_host


class Judged(NamedTuple):
    """The tokens of a text, and its end; 1 where the decoder has no position.

    Attributes:
        chance: the decoder's probability of each.
        ratio: that probability as a share of the one that the decoder gives its own best token there.
    """

    chance: list[float]
    ratio: list[float]

    def is_unsure(self, spot: Spot, threshold: float) -> bool:
        """Whether a token of a segment, or the one after it, has less than the threshold."""
        return min(self.chance[spot.start : spot.end + 1]) < threshold

    def is_held_back(self, spot: Spot, share: float) -> bool:
        """Whether the decoder would write another token in a segment: one stands there that has less than a share of the best one's
        probability."""
        return min(self.ratio[spot.start : spot.end], default=1.0) < share


def judged(
    model: HybridModel, encoded: Encoded, prefill: Prefill, texts: Sequence[list[int]], owners: Sequence[int]
) -> Mapping[int, Judged]:
    """What a pass over the texts of utterances says of them.

    Args:
        texts: of all B utterances.
        owners: the utterances that the pass was over.
    """
    positions = model.rows.spec.max_positions
    sizes = []
    for owner in owners:
        size = len(texts[owner])
        room = size if positions is None else positions - len(encoded.prompts[owner])
        sizes.append(min(size, room))
    none = torch.zeros(len(owners), dtype=torch.long)
    whole = Segments(torch.tensor(owners), none, torch.tensor(sizes), none, none, none, none)
    found = token_scores(prefill, Text.of(texts), whole, none + 1, model.special.eos)
    numbers = to_host(found.own.exp(), (found.own - found.best()).exp())
    parts = [x.split([size + 1 for size in sizes]) for x in numbers]
    out = {}
    for owner, chance, ratio in zip(owners, *parts, strict=True):
        beyond = [1.0] * (len(texts[owner]) - len(chance) + 1)
        out[owner] = Judged([*chance.tolist(), *beyond], [*ratio.tolist(), *beyond])
    return out
