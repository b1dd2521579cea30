"""Where a family's blocks drop values while they are trained; in evaluation mode nothing is dropped."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DropoutOptions:
    """Shares of values that are dropped, 0 where a family drops none. That of attention weights stands in ``AttentionOptions``.

    Attributes:
        inputs: of what the first block reads, positions among it.
        table: of the relative positions.
        attention, convolution, feed: of what an attention, a convolution, a feed-forward layer adds.
        inner: of a feed-forward layer's hidden values.
    """

    inputs: float = 0.0
    table: float = 0.0
    attention: float = 0.0
    convolution: float = 0.0
    feed: float = 0.0
    inner: float = 0.0

    @staticmethod
    def everywhere(share: float, inputs: float) -> DropoutOptions:
        """The same share in all blocks, and one of the inputs and positions (WeNet, ESPnet)."""
        return DropoutOptions(inputs, inputs, share, share, share, share)


NOTHING = DropoutOptions()
