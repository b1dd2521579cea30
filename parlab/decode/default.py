"""The decoder of a model where none is named."""

from __future__ import annotations

from typing import Any

from parlab.decode.base import Decoder
from parlab.decode.strategies import AR, PAR, Greedy, Speculative
from parlab.errors import UserError
from parlab.model.hybrid import HybridModel

# Chosen on development data with Whisper tiny.en's head (recipes/whisper/README.md).
WITH_A_HEAD = PAR(
    threshold=0.5,
    beam_size=3,
    margin=8,
    ctc_weight=0.0,
    corrections=5,
    correct_below=0.8,
    rounds=4,
    widen=0.3,
    length_tolerance=0.5,
    measure="decoder",
)
VERIFIED_WITH_A_HEAD = Speculative(corrections=16)


def usual_options(decoder: type[Decoder], drafts: bool) -> dict[str, Any]:
    """The options of a decoder that are others than its own defaults where a draft head drafts (``drafts``)."""
    usual = {PAR: WITH_A_HEAD, Speculative: VERIFIED_WITH_A_HEAD}.get(decoder)
    return {} if usual is None or not drafts else usual.changed()


def default_decoder(model: HybridModel, transcribes: bool = True, drafts: bool = False) -> Decoder:
    """PAR for a hybrid model and for one with a draft head; greedy CTC or AR for one that lacks the decoder or CTC.

    A draft head is weaker than the decoder that it drafts for: the decoder corrects its draft, says which words stay, and alone fills the
    others, all at once, with about as many letters as the head wrote there, and then masks and fills again; a word after a segment that
    is still not what the decoder would write is masked too.

    Args:
        transcribes: whether plain text of the speech is asked for; else (a translation, times) only AR can do it.
        drafts: whether a draft head stands in for the CTC head.
    """
    if model.decoder is None:
        return Greedy()
    if (model.ctc is None and not drafts) or not transcribes:
        return AR(ctc_weight=0.0)
    try:
        _ = model.rows
    except UserError:  # a rarer decoder, which cannot be stepped in rows
        return Greedy()
    return WITH_A_HEAD if drafts else PAR()
