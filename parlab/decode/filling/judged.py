"""What the decoder, after a pass over texts, thinks of their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from parlab.decode.filling.text import text_scores
from parlab.decode.filling.written import Spot
from parlab.decode.prefill import Prefill
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


def judged(prefill: Prefill, texts: Mapping[int, Sequence[int]], eos: int) -> Mapping[int, Judged]:
    """What a pass over the texts of utterances says of them.

    Args:
        texts: by their utterances.
    """
    found, counts = text_scores(prefill, texts, [0] * len(texts), eos)
    numbers = to_host(found.own.exp(), (found.own - found.best()).exp())
    out = {}
    for (owner, text), chance, ratio in zip(texts.items(), *(x.split(counts) for x in numbers), strict=True):
        beyond = [1.0] * (len(text) - len(chance) + 1)
        out[owner] = Judged([*chance.tolist(), *beyond], [*ratio.tolist(), *beyond])
    return out
