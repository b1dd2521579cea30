"""Floors 3 and 4: the blocks of decoding, and the strategies made of them."""

from parlab.decode.ar import AR
from parlab.decode.base import Decoder
from parlab.decode.ctc_beam import CTCBeam
from parlab.decode.greedy import Greedy
from parlab.decode.par import PAR
from parlab.decode.rescore import Rescore
from parlab.decode.speculative import Speculative

DECODERS: dict[str, type[Decoder]] = {cls.name: cls for cls in (Greedy, CTCBeam, Rescore, AR, PAR, Speculative)}

__all__ = ["AR", "DECODERS", "PAR", "CTCBeam", "Decoder", "Greedy", "Rescore", "Speculative"]
