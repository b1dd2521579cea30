"""The decoders, a file each; none imports another."""

from parlab.decode.strategies.ar import AR
from parlab.decode.strategies.ctc_beam import CTCBeam
from parlab.decode.strategies.gated import Gated
from parlab.decode.strategies.greedy import Greedy
from parlab.decode.strategies.par import PAR
from parlab.decode.strategies.refine import Refine
from parlab.decode.strategies.rescore import Rescore
from parlab.decode.strategies.speculative import Speculative

__all__ = ["AR", "PAR", "CTCBeam", "Gated", "Greedy", "Refine", "Rescore", "Speculative"]
