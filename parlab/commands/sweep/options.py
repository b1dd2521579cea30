"""The options of ``sweep``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from parlab.commands.sweep.grid import split_values
from parlab.options.checks import check_above_zero, check_not_negative
from parlab.options.parser import Parser
from parlab.predictions.files import Json
from parlab.tracking.runs import check_layout, resolve_mode

_ELSEWHERE = ("out", "devices", "accelerator", "wandb", "project")  # they change no result, and are not recorded


@dataclass(frozen=True)
class SweepOptions:
    """A model, data, and the settings of a decoder that are tried on them.

    Attributes:
        model: ESPnet folder, run folder, checkpoint or hub id
        data: manifest, Kaldi folder or cuts, with references
        out: folder for the results; a restart goes on there
        head: folder of a draft head of the model
        decoder: a name, tuned or a configuration file; its options take several values: --decoder.beam_size 1,5,10
        grid: option: list of values; all combinations
        points: settings instead of a grid
        sample: only so many random points
        seed: of random points and of the timed sample
        batch_size: utterances decoded together
        batch_seconds: padded seconds decoded together
        timed_utterances: utterances that speed is measured on; 0: none
        repeats: times that each point is timed; the median counts
        latency: time one utterance at a time
        language: S2T: language, as eng, or auto
        task: S2T: asr, or a translation as st_deu
        normalizer: text normaliser for WER and CER
        limit: decode only so many utterances
        memory_gib: encoder outputs kept in memory
        disk_gib: encoder outputs memory-mapped beyond that
        accelerator: Lightning's accelerator
        devices: devices that share the points; 1, or torchrun's
        wandb: W&B: auto, online, offline, off
        wandb_layout: one run with a table, or 'group': a run per point
        project: W&B project

    Raises:
        UserError: there is no such W&B layout or mode, or a number makes no sense.
    """

    model: str
    data: str | list[str]
    out: str
    decoder: str = "par"
    head: str | None = None
    grid: dict[str, Any] = field(default_factory=dict)
    points: list[dict[str, Any]] = field(default_factory=list)
    sample: int | None = None
    seed: int = 0
    batch_size: int = 8
    batch_seconds: float = 240.0
    timed_utterances: int = 20
    repeats: int = 3
    latency: bool = False
    language: str | None = None
    task: str = "asr"
    normalizer: str = "none"
    limit: int | None = None
    memory_gib: float = 4.0
    disk_gib: float = 50.0
    accelerator: str = "auto"
    devices: int | None = None
    wandb: str = "auto"
    wandb_layout: str = "table"
    project: str = "parlab"

    def __post_init__(self) -> None:
        check_layout(self.wandb_layout)
        resolve_mode(self.wandb)
        check_above_zero(self, "batch_size", "batch_seconds", "limit", "sample", "devices")
        check_not_negative(self, "seed", "timed_utterances", "repeats", "memory_gib", "disk_gib")

    @staticmethod
    def read(argv: Sequence[str]) -> SweepOptions:
        """The options of a command line."""
        parser = Parser.of(
            "sweep", "Decode data with many settings of a decoder: --decoder par --decoder.threshold 0.5,0.9"
        )
        parser.add_class_arguments(SweepOptions)
        given = vars(parser.read(split_values(argv)))
        return SweepOptions(**{name: given[name] for name in SweepOptions.__dataclass_fields__})

    def to_json(self) -> dict[str, Json]:
        """What is recorded: all that may change a result."""
        return {name: _plain(value) for name, value in vars(self).items() if name not in _ELSEWHERE}


def _plain(value: Any) -> Json:
    """Namespaces and tuples as JSON has them."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
