"""A saved W&B workspace as data: its sections and panels.

Everything that it shows is logged by ``fit``, ``predict``, ``sweep`` and ``report`` anyway, offline too.
"""

from __future__ import annotations

from dataclasses import dataclass

_STEP = "trainer/global_step"


@dataclass(frozen=True)
class Curves:
    """Lines over the steps of a training, one for each run and key."""

    title: str
    y: tuple[str, ...]
    x: str = _STEP


@dataclass(frozen=True)
class Points:
    """A point for each run: ``y`` of its summary against ``x`` of its summary, or of its configuration (``config:...``)."""

    title: str
    x: str
    y: str


@dataclass(frozen=True)
class Chart:
    """Columns ``x`` and ``y`` of a logged table; ``line`` is the column that tells its lines apart (else points)."""

    title: str
    table: str
    x: str
    y: str
    line: str = ""


@dataclass(frozen=True)
class Rows:
    """A logged table as it is."""

    table: str


@dataclass(frozen=True)
class Pictures:
    """Logged pictures."""

    keys: tuple[str, ...]


Panel = Curves | Points | Chart | Rows | Pictures


@dataclass(frozen=True)
class Section:
    """Panels that show the runs of one command, ``source``."""

    name: str
    source: str
    panels: tuple[Panel, ...]
    open: bool = True


def _runs(options: str) -> tuple[Panel, ...]:
    """A point per prediction; ``options`` is the prefix of the decoder's options in its configuration."""
    return (
        Points("WER against RTFx", "speed/rtfx", "wer/rate"),
        Points("WER against threshold", f"{options}threshold", "wer/rate"),
        Points("Masked tokens against threshold", f"{options}threshold", "par/masked_tokens"),
        Points(
            "Search seconds per second of audio against max_mask_parallel (-1: all)",
            f"{options}max_mask_parallel",
            "speed/search_seconds_per_audio_second",
        ),
        Points("Latency, median (s) against RTFx", "speed/rtfx", "speed/latency_p50"),
        Points("Latency, 90th percentile (s) against RTFx", "speed/rtfx", "speed/latency_p90"),
    )


COLUMNS = (
    "summary:wer/rate",
    "summary:cer/rate",
    "summary:speed/rtfx",
    "summary:speed/rtfx_with_loading",
    "summary:par/masked_tokens",
)
"""Columns pinned in the list of runs."""

SECTIONS: tuple[Section, ...] = (
    Section(
        "Training",
        "fit",
        (
            Curves("Loss, training", ("train/loss",)),
            Curves("CTC loss, training", ("train/ctc",)),
            Curves("Attention loss, training", ("train/attention",)),
            Curves("Loss, development", ("dev/loss",)),
            Curves("WER (greedy), development", ("dev/wer",)),
            Curves("CER (greedy), development", ("dev/cer",)),
            Curves("Decoder accuracy", ("train/accuracy", "dev/accuracy")),
            Curves("Learning rate", ("train/lr",)),
            Curves("Throughput (seconds of audio per second)", ("train/audio_seconds_per_second",)),
        ),
    ),
    Section("Predictions", "predict", (*_runs("config:decoder.options."), Rows("utterances"))),
    Section("Sweep, a run per point (--wandb_layout group)", "sweep group", _runs("config:")),
    Section("Sweep, one table", "sweep", (Rows("points"),), open=False),
    Section(
        "Report: charts",
        "report",
        (
            Chart("WER against RTFx", "tables/wer_rtfx", "rtfx", "wer"),
            Chart("WER against threshold", "tables/threshold", "threshold", "wer", "setting"),
            Chart("Masked share against threshold", "tables/threshold", "threshold", "masked_share", "setting"),
            Chart(
                "Search seconds per second of audio against max_mask_parallel (-1: all)",
                "tables/parallelism",
                "max_mask_parallel",
                "search_seconds_per_audio_second",
                "setting",
            ),
            Chart("Latency (s) against duration (s)", "tables/latency", "duration", "seconds"),
            Chart("Accuracy against confidence", "tables/reliability", "confidence", "accuracy", "name"),
        ),
    ),
    Section(
        "Report: tables and pictures",
        "report",
        (
            Rows("tables/summary"),
            Pictures(tuple(f"pictures/{name}" for name in ("wer_rtfx", "threshold", "parallelism"))),
            Pictures(tuple(f"pictures/{name}" for name in ("phases", "latency", "reliability", "caught"))),
        ),
        open=False,
    ),
)
"""The sections of the workspace; every key is one that the command named by ``source`` logs."""
