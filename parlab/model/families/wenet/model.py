"""A WeNet model: a hybrid of our blocks, and where it is U2++ a second decoder, which reads from right to left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from parlab.errors import UserError
from parlab.model.families.blocks.decoder import Decoder
from parlab.model.families.blocks.model import BlockModel
from parlab.model.hybrid import HybridModel
from parlab.model.packed import Fingerprint
from parlab.model.rows import RowDecoder
from parlab.types import SpecialTokens


class WenetModel(BlockModel):
    """A U2 or U2++ model.

    Args:
        right_decoder: of U2++, which reads a text from its end to its start; None for U2. Its share of the attention loss is the
            ``reverse_weight`` of ``config``'s ``model_conf``.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        special: SpecialTokens,
        parts: Mapping[str, nn.Module | None],
        right_decoder: Decoder | None,
    ):
        super().__init__("WeNet", config, special, parts)
        self.right_decoder = right_decoder
        self._reverse: tuple[Fingerprint, RowDecoder] | None = None

    def backward_decoder(self) -> tuple[nn.Module, float] | None:
        if self.right_decoder is None:
            return None
        return self.right_decoder, float(self.config["model_conf"].get("reverse_weight", 0.0))

    def trainable(self, network: Mapping[str, Any]) -> None:
        super().trainable(network)
        share = float(self.config["model_conf"].get("reverse_weight", 0.0))
        if self.right_decoder is None and share > 0.0:
            raise UserError(
                f"model_conf.reverse_weight is {share}, but this model has no decoder from right to left (U2++ has one), expected 0; leave it out"
            )
        if self.right_decoder is not None and (share == 0.0 or self.config["model_conf"]["ctc_weight"] == 1.0):
            self.right_decoder.requires_grad_(False)

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
    weights = list(model.right_decoder.parameters())
    made = model._reverse  # another thread may replace it meanwhile
    if made is None or not made[0].matches(weights):
        made = model._reverse = (Fingerprint(weights), RowDecoder(model.right_decoder.spec()))
    return made[1]
