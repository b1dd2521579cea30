"""Floors 3 and 4: the blocks of decoding, and the strategies made of them."""

from parlab.decode.ar import AR
from parlab.decode.base import Decoder
from parlab.decode.greedy import Greedy
from parlab.decode.par import PAR

DECODERS: dict[str, type[Decoder]] = {cls.name: cls for cls in (Greedy, AR, PAR)}

__all__ = ["AR", "DECODERS", "PAR", "Decoder", "Greedy"]
