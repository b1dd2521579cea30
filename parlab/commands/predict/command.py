"""``predict``: decode data with a model and a decoder; write hypotheses, metrics, W&B."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from parlab.commands.predict.options import PredictOptions
from parlab.commands.predict.run import predict
from parlab.options.libraries import quiet_libraries
from parlab.predictions.metrics import Metrics


def main(argv: Sequence[str]) -> int:
    """Run ``predict``; 0 when every utterance was decoded, 1 when some failed."""
    quiet_libraries()
    options = PredictOptions.parsed(PredictOptions.parser().read_with_decoder(argv))
    metrics = predict(options)
    if metrics is None:  # another rank writes and reports
        return 0
    print_metrics(metrics, options.out)
    return 1 if metrics.failed else 0


def print_metrics(metrics: Metrics, out: str) -> None:
    """A line for people, and what failed."""
    parts = [metrics.decoder.name]
    for name, errors in (("WER", metrics.wer), ("CER", metrics.cer)):
        if errors is not None:
            parts.append(f"{name} {errors.rate:.2%} ({errors.errors}/{errors.total})")
    if metrics.scored and metrics.scored != metrics.utterances:
        parts.append(f"both over {metrics.scored} of {metrics.utterances} utterances")
    if metrics.speed is not None:
        speed = metrics.speed
        loading = "" if speed.rtfx_with_loading is None else f" ({speed.rtfx_with_loading:.1f} with loading)"
        parts.append(f"RTFx {speed.rtfx:.1f}{loading}")
        if speed.latency_with_loading_p50 is not None:
            parts.append(
                f"latency {speed.latency_p50:.3f} s, from the file {speed.latency_with_loading_p50:.3f} s (medians)"
            )
        parts.append(f"search {metrics.speed.search_seconds:.2f} s of {metrics.speed.audio_seconds:.0f} s audio")
        if speed.joules_per_audio_hour is not None:
            parts.append(f"{speed.joules_per_audio_hour:.0f} J per hour of audio")
    if metrics.par.segments:
        parts.append(f"{metrics.par.masked_share:.1%} of tokens masked")
    if metrics.failed:
        parts.append(f"{len(metrics.failed)} failed")
    print(" | ".join(parts))
    print(f"wrote {out}/hypotheses.jsonl and {out}/metrics.json")
    for failure in metrics.failed:
        print(f"failed: {failure.id}: {failure.reason}", file=sys.stderr)
