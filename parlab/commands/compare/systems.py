"""One system of a comparison: its error rates with intervals, its speed and its work."""

from __future__ import annotations

from dataclasses import dataclass

from parlab.metrics.confidence import ConfidenceQuality
from parlab.predictions.confidences import confidence_quality
from parlab.predictions.files import Json
from parlab.predictions.metrics import Named, Speed
from parlab.predictions.prediction import Prediction
from parlab.predictions.rates import Rate

_SPEED = ("rtfx", "rtfx_with_loading", "search_seconds", "encode_seconds", "latency_p50", "latency_p90")
_PHASES = ("search", "encode")


@dataclass(frozen=True)
class System:
    """A prediction in a comparison.

    Attributes:
        utterances: number of utterances.
        wer, cer: None without references.
        speed: None where nothing was timed.
        masked_share: masked tokens per draft token.
        passes, steps: passes and steps of the attention decoder.
        failed: number of utterances that could not be decoded.
        confidence: how good the tokens' confidences are; None where none is known, or nothing is scored.
    """

    name: str
    decoder: Named
    utterances: int
    wer: Rate | None
    cer: Rate | None
    speed: Speed | None
    masked_share: float
    passes: float
    steps: float
    failed: int
    confidence: ConfidenceQuality | None

    @staticmethod
    def of(p: Prediction, wer: Rate | None, cer: Rate | None) -> System:
        """A prediction with its rates."""
        counts = p.metrics.counts
        return System(
            name=p.name,
            decoder=p.metrics.decoder,
            utterances=len(p.records),
            wer=wer,
            cer=cer,
            speed=p.metrics.speed,
            masked_share=p.masked_share,
            passes=counts.get("decoder_passes", 0),
            steps=counts.get("decoder_steps", p.metrics.par.decoder_steps),
            failed=len(p.metrics.failed),
            confidence=confidence_quality(p),
        )

    def to_json(self) -> dict[str, Json]:
        """The system's entry of ``compare --json``; what is not known is left out."""
        speed: dict[str, Json] = {name: getattr(self.speed, name, None) for name in _SPEED}
        if self.speed:
            speed |= {f"{name}_seconds_per_audio_second": self.speed.per_audio_second(name) for name in _PHASES}
        speed = {name: value for name, value in speed.items() if value is not None}
        entry: dict[str, Json] = {
            **vars(self),
            "decoder": dict(vars(self.decoder)),
            "wer": self.wer.to_json() if self.wer else None,
            "cer": self.cer.to_json() if self.cer else None,
            "speed": speed if self.speed else None,
            "confidence": self.confidence.to_json() if self.confidence else None,
        }
        return {name: value for name, value in entry.items() if value is not None}
