"""A WeNet model: a hybrid of our blocks, and where it is U2++ a second decoder, which reads from right to left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from parlab.errors import UserError
from parlab.model.families.blocks.decoder import Decoder
from parlab.model.families.blocks.model import BlockModel
from parlab.model.hybrid import HybridModel
from parlab.model.rows import RowDecoder
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
        self._reverse: tuple[Any, RowDecoder] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_reverse": None}


def reverse_rows(model: HybridModel) -> RowDecoder:
    """The decoder from right to left as rows, which read ``<sos>`` and a text from its end to its start.

    Raises:
        UserError: the model has none.
    """
    if not isinstance(model, WenetModel) or model.right_decoder is None:
        raise UserError(
            f"reverse_weight needs a decoder that reads from right to left, as WeNet's U2++ has one, but this {model.family} model has "
            "none; set it to 0"
        )
    weight = model.right_decoder.embed.weight
    key = weight.data_ptr(), weight.dtype
    made = model._reverse  # another thread may replace it meanwhile
    if made is None or made[0] != key:
        made = model._reverse = (key, RowDecoder(model.right_decoder.spec()))
    return made[1]
