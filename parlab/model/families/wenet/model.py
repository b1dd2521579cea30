"""A WeNet model: a hybrid of our blocks, and where it is U2++ a second decoder, which reads from right to left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from parlab.model.families.blocks.decoder import Decoder
from parlab.model.families.blocks.model import BlockModel
from parlab.types import SpecialTokens


class WenetModel(BlockModel):
    """A U2 or U2++ model.

    Args:
        right_decoder: of U2++, which reads a text from its end to its start; None for U2.
        reverse_weight: the training's, of the second decoder.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        special: SpecialTokens,
        parts: Mapping[str, nn.Module | None],
        right_decoder: Decoder | None,
        reverse_weight: float,
    ):
        super().__init__("WeNet", config, special, parts)
        self.right_decoder = right_decoder
        self.reverse_weight = reverse_weight
