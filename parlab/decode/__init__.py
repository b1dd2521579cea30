"""Decoding: the blocks, and in ``strategies`` the decoders made of them."""

from parlab.decode.base import Decoder
from parlab.decode.default import default_decoder, usual_options
from parlab.decode.strategies import AR, PAR, CTCBeam, Gated, Greedy, Refine, Rescore, Speculative

DECODERS: dict[str, type[Decoder]] = {
    cls.name: cls for cls in (Greedy, CTCBeam, Rescore, AR, PAR, Speculative, Gated, Refine)
}

__all__ = [
    "AR",
    "DECODERS",
    "PAR",
    "CTCBeam",
    "Decoder",
    "Gated",
    "Greedy",
    "Refine",
    "Rescore",
    "Speculative",
    "default_decoder",
    "usual_options",
]
