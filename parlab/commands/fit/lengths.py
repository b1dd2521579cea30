"""How many encoder frames an utterance has, before it is loaded: what CTC can emit is limited by them."""

from __future__ import annotations

from collections.abc import Callable

from parlab.model.features import LogMelFrontend
from parlab.model.hybrid import HybridModel
from parlab.model.invariance import subsampled_lengths, subsamples


def frame_counter(model: HybridModel) -> Callable[[float], int] | None:
    """Encoder frames as a function of seconds; None where CTC is not trained or the formula is not known."""
    weight = float(model.config.get("model_conf", {}).get("ctc_weight", 0.5)) if model.decoder is not None else 1.0
    known = isinstance(model.frontend, LogMelFrontend) and model.preencoder is None and model.postencoder is None
    if model.ctc is None or weight == 0.0 or not known or not subsamples(model.encoder):
        return None
    hop, rate, window = int(model.frontend.hop_length), model.sample_rate, model.window_seconds  # type: ignore[union-attr, arg-type]

    def frames(seconds: float) -> int:
        features = round((window or seconds) * rate) // hop + 1
        return max(0, int(subsampled_lengths(model.encoder.embed, features)))

    return frames
