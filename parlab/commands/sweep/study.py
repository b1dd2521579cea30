"""A model and a data set on which the points of a sweep are decoded and timed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from parlab.commands.sweep.grid import Point
from parlab.commands.sweep.options import SweepOptions
from parlab.data.checks import with_known_durations
from parlab.data.plan import prediction_batches
from parlab.data.sources import read_data
from parlab.data.utterance import Utterance
from parlab.model.families.weights import hash_model
from parlab.predictions.files import Json
from parlab.predictions.metrics import Hashes, Metrics, NormalizerVersion, has_metrics, read_metrics
from parlab.predictions.provenance import describe_decoder, hashes_of
from parlab.predictions.results import Source
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from parlab.text.normalizer import normalizer


@dataclass(frozen=True)
class Study:
    """What all points share; ``rank`` is that of this process among those that share the points."""

    options: SweepOptions
    recognizer: Recognizer
    utterances: list[Utterance]
    hashes: Hashes
    rank: int = 0

    @staticmethod
    def of(options: SweepOptions, device: torch.device, rank: int = 0) -> Study:
        """Read model and data.

        Raises:
            UserError: they are unusable.
        """
        recognizer = Recognizer.read(options.model, device, head=options.head)
        normalizer(options.normalizer)
        utterances = read_data(options.data, options.limit)
        hashes = hashes_of(recognizer.model_hash(), utterances)
        utterances = with_known_durations(utterances)  # the hash is that of the data as they were named
        recognizer = recognizer.asked(PromptOptions(options.language, options.task))
        return Study(options, recognizer, utterances, hashes, rank)

    @property
    def out(self) -> Path:
        """The folder of the sweep."""
        return Path(self.options.out)

    @property
    def cache(self) -> Path:
        """Where this process maps its encoder outputs: it would empty the files that another one reads."""
        return self.out / (f"cache{self.rank}" if self.rank else "cache")

    def batches(self, utterances: Sequence[Utterance]) -> list[list[Utterance]]:
        """Utterances that are decoded together."""
        return prediction_batches(utterances, self.options.batch_size, self.options.batch_seconds)

    @property
    def normalizer(self) -> NormalizerVersion:
        """The text normaliser."""
        normalize = normalizer(self.options.normalizer)
        return NormalizerVersion(normalize.name, normalize.version)

    def identity(self) -> dict[str, Json]:
        """What must be the same for a restart."""
        return {
            **self.head(),
            "sweep": True,
            "decoder": self.options.decoder,
            "model_hash": self.hashes.model,
            "data_hash": self.hashes.data,
            "normalizer": dict(vars(self.normalizer)),
            "limit": self.options.limit,
            "prompt": [self.options.language, self.options.task],
        }

    def head(self) -> dict[str, Json]:
        """The draft head's hash, where there is one."""
        head = self.recognizer.head
        return {} if head is None else {"head": hash_model(head.network)}

    def source(self, point: Point) -> Source:
        """Where the results of a point come from."""
        options = self.options
        config: dict[str, Json] = {"point": dict(point.options), "limit": options.limit, **self.head()}
        decoder = describe_decoder(point.decoder)
        return Source(decoder, options.model, options.data, self.normalizer, self.hashes, config)

    def folder(self, point: Point) -> Path:
        """The folder of a point."""
        return self.out / "points" / point.name

    def read(self, point: Point) -> Metrics:
        """The metrics of a finished point."""
        return read_metrics(self.folder(point))

    def done(self, point: Point) -> bool:
        """Whether all is decoded; what failed is tried again, as in ``predict``."""
        return has_metrics(self.folder(point)) and not self.read(point).failed

    def timed(self, point: Point) -> bool:
        """Whether a finished point has figures of speed."""
        return self.read(point).speed is not None


def progress() -> Progress:
    """A bar with the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
    )
