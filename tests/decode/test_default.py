"""The decoder that a model gets where none is named."""

from __future__ import annotations

from parlab.decode import AR, PAR, Greedy, default_decoder
from parlab.decode.default import WITH_A_HEAD
from tests.models import tiny_model


def test_by_what_the_model_has() -> None:
    hybrid = tiny_model()
    assert default_decoder(hybrid) == PAR()
    assert default_decoder(hybrid, transcribes=False) == AR(ctc_weight=0.0)
    assert default_decoder(tiny_model(model_conf={"ctc_weight": 1.0})) == Greedy()
    attention = tiny_model(model_conf={"ctc_weight": 0.0})
    assert default_decoder(attention) == AR(ctc_weight=0.0)
    assert default_decoder(attention, drafts=True) == WITH_A_HEAD
    assert default_decoder(attention, transcribes=False, drafts=True) == AR(ctc_weight=0.0)
