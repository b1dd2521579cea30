"""The figures of speed in ``metrics.json`` (``docs/formats.md``)."""

from __future__ import annotations

from dataclasses import dataclass

from parlab.predictions.files import Json


@dataclass(frozen=True)
class DeviceShare:
    """What one device decoded: utterances, seconds of audio, seconds of decoding."""

    rank: int
    utterances: int
    audio_seconds: float
    seconds: float


@dataclass(frozen=True)
class Environment:
    """What speed depends on: batch, precision, device, and the peak of its memory in bytes.

    ``joules_per_audio_hour`` is the energy of the GPUs per hour of audio, from the end of the warm-up to the last result; None
    where they do not report it.
    """

    batch_size: int | None = None
    precision: str | None = None
    device: str | None = None
    num_devices: int | None = None
    peak_memory_bytes: int | None = None
    joules_per_audio_hour: float | None = None


@dataclass(frozen=True)
class Speed(Environment):
    """Seconds of all utterances; None where they were not measured.

    Attributes:
        audio_seconds: of speech.
        wall_seconds: of all phases, loading audio among them; of the slowest device.
        rtf, rtfx: seconds of encode, CTC and search per second of audio, and its inverse.
        load_seconds, encode_seconds, ctc_seconds, search_seconds: of each phase.
        latency_p50, latency_p90, latency_p99: percentiles of the seconds from a loaded batch to its results;
            latency_with_loading_...: from the file, of batches of one utterance alone.
        devices: the share of each device.
        timed_utterances, repeats, seconds_min, seconds_median, seconds_max: of a sweep's timed sample.
    """

    audio_seconds: float | None = None
    wall_seconds: float | None = None
    rtf: float | None = None
    rtfx: float | None = None
    load_seconds: float | None = None
    encode_seconds: float | None = None
    ctc_seconds: float | None = None
    search_seconds: float | None = None
    latency_p50: float | None = None
    latency_p90: float | None = None
    latency_p99: float | None = None
    latency_with_loading_p50: float | None = None
    latency_with_loading_p90: float | None = None
    latency_with_loading_p99: float | None = None
    devices: tuple[DeviceShare, ...] = ()
    timed_utterances: int | None = None
    repeats: int | None = None
    seconds_min: float | None = None
    seconds_median: float | None = None
    seconds_max: float | None = None

    def to_json(self) -> dict[str, Json]:
        entry = {name: value for name, value in vars(self).items() if value is not None or name in _ALWAYS}
        return {**entry, "devices": [dict(vars(share)) for share in self.devices]}

    def per_audio_second(self, phase: str) -> float | None:
        """Seconds of a phase per second of audio; None where one is not known."""
        seconds = getattr(self, f"{phase}_seconds")
        return None if seconds is None or not self.audio_seconds else seconds / self.audio_seconds

    @property
    def rtfx_with_loading(self) -> float | None:
        """Seconds of audio per second of all phases, loading among them; None where loading was not timed."""
        return (
            self.audio_seconds / self.wall_seconds
            if self.load_seconds and self.wall_seconds and self.audio_seconds
            else None
        )

    @property
    def environment(self) -> Environment:
        """The environment alone."""
        return Environment(**{name: getattr(self, name) for name in Environment.__dataclass_fields__})


_ALWAYS = frozenset(Environment.__dataclass_fields__) - {"joules_per_audio_hour"}
