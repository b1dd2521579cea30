"""``metrics.json``: its typed content, its one writer and its one reader (``docs/formats.md``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from parlab.errors import UserError
from parlab.metrics.wer import ErrorCounts
from parlab.predictions.files import Json, write_json
from parlab.predictions.hypotheses import read_fields
from parlab.predictions.speed import DeviceShare, Environment, Speed
from parlab.types import Failure

__all__ = [
    "DeviceShare",
    "Environment",
    "Hashes",
    "Metrics",
    "Named",
    "NormalizerVersion",
    "ParCounts",
    "Speed",
    "has_metrics",
    "read_metrics",
    "write_metrics",
]

NAME = "metrics.json"
# Products of other shapes round differently: by 1e-6 in float32, while the 8 to 11 bits of other types let hypotheses change places.
_INVARIANT = frozenset({"32-true", "64-true"})


@dataclass(frozen=True)
class Named:
    """A decoder with all of its options."""

    name: str
    options: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class NormalizerVersion:
    """The text normaliser that the error rates were computed with."""

    name: str = "none"
    version: str = "1"


@dataclass(frozen=True)
class Hashes:
    """SHA-256 of the model's weights and of the data; empty where they were not written."""

    model: str = ""
    data: str = ""


@dataclass(frozen=True)
class ParCounts:
    """What was masked and what the search did, summed over utterances; all 0 for decoders that mask nothing."""

    utterances_with_masks: int = 0
    tokens: float = 0
    masked_tokens: float = 0
    segments: int = 0
    mean_segment_length: float = 0.0
    max_segment_length: int = 0
    decoder_steps: float = 0
    forced_stops: float = 0
    changed_segments: int = 0

    @property
    def masked_share(self) -> float:
        """Masked tokens per draft token."""
        return float(self.masked_tokens) / max(float(self.tokens), 1.0)


@dataclass(frozen=True)
class Metrics:
    """The content of ``metrics.json``; what is not a key of the contract may be missing in a file.

    Attributes:
        wer, cer: pooled errors; None without references.
        speed: None where nothing was timed.
        counts: sums of everything that the decoder counted.
        utterances: lines of ``hypotheses.jsonl``, None where the file does not say; ``scored`` of them have a reference.
        config: the resolved configuration; ``options`` are those of ``predict``, as ``rerun`` reads them.
        search_memory_bytes: peak memory of the search alone (sweeps).
        batch_invariant: whether an utterance has the same result in every batch, by the precision; None where that is not known.
    """

    decoder: Named
    model: str | None = None
    data: Json = None
    wer: ErrorCounts | None = None
    cer: ErrorCounts | None = None
    speed: Speed | None = None
    par: ParCounts = ParCounts()
    counts: Mapping[str, float] = field(default_factory=dict)
    utterances: int | None = None
    scored: int | None = None
    failed: tuple[Failure, ...] = ()
    versions: Mapping[str, str | None] = field(default_factory=dict)
    normalizer: NormalizerVersion = NormalizerVersion()
    hashes: Hashes = Hashes()
    config: Mapping[str, Json] = field(default_factory=dict)
    options: Mapping[str, Json] | None = None
    search_memory_bytes: int | None = None
    batch_invariant: bool | None = None

    def with_speed(self, speed: Speed) -> Metrics:
        """These metrics with figures of speed; their precision says whether results may depend on the batch."""
        invariant = None if speed.precision is None else speed.precision in _INVARIANT
        return replace(self, speed=speed, batch_invariant=invariant)

    def to_json(self) -> dict[str, Json]:
        """The file's content; what is not known is left out."""
        entry: dict[str, Json] = {
            **vars(self),
            "decoder": dict(vars(self.decoder)),
            "wer": self.wer.as_dict() if self.wer else None,
            "cer": self.cer.as_dict() if self.cer else None,
            "speed": self.speed.to_json() if self.speed else None,
            "par": dict(vars(self.par)),
            "failed": [dict(vars(failure)) for failure in self.failed],
            "normalizer": dict(vars(self.normalizer)),
            "hashes": dict(vars(self.hashes)),
        }
        return {name: value for name, value in entry.items() if value is not None}

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Metrics:
        """Read the content of a file.

        Raises:
            KeyError, TypeError, AttributeError: it is none.
        """
        speed = entry.get("speed")
        if speed is not None:
            devices = tuple(read_fields(DeviceShare, share) for share in speed.get("devices") or ())
            speed = replace(read_fields(Speed, speed), devices=devices)
        return replace(
            read_fields(
                Metrics, {**entry, "decoder": Named(entry["decoder"]["name"], entry["decoder"].get("options") or {})}
            ),
            data=entry.get("data"),
            wer=ErrorCounts.from_dict(entry["wer"]) if entry.get("wer") else None,
            cer=ErrorCounts.from_dict(entry["cer"]) if entry.get("cer") else None,
            speed=speed,
            par=read_fields(ParCounts, entry.get("par") or {}),
            counts=entry.get("counts") or {},
            failed=tuple(read_fields(Failure, failure) for failure in entry.get("failed") or ()),
            normalizer=read_fields(NormalizerVersion, entry.get("normalizer") or {}),
            hashes=read_fields(Hashes, entry.get("hashes") or {}),
        )


def has_metrics(folder: Path) -> bool:
    """Whether the prediction in a folder is complete: the metrics are written last."""
    return (folder / NAME).is_file()


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Write the metrics into a prediction's folder."""
    write_json(folder / NAME, metrics.to_json())


def read_metrics(folder: Path) -> Metrics:
    """The metrics of a prediction's folder.

    Raises:
        UserError: there are none, or the file is broken or names no decoder.
    """
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} holds no prediction ({NAME} is missing or broken); name a folder that `predict --out` wrote"
        ) from error
    try:
        return Metrics.from_json(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{folder}/{NAME} names no decoder, or holds no metrics, expected what `predict` writes; predict again"
        ) from error
