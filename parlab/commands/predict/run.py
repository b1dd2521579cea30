"""A prediction from its options to its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from torch.utils.data import DataLoader

from parlab.commands.predict.module import PredictionWriter, PredictModule
from parlab.commands.predict.options import PredictOptions
from parlab.commands.predict.profile import HostProfile
from parlab.data.checks import check_some_audio, with_known_durations
from parlab.data.plan import prediction_batches
from parlab.data.sources import read_data
from parlab.data.utterance import Utterance
from parlab.decode import Decoder
from parlab.metrics.speed import peak_memory
from parlab.model.families.weights import hash_model
from parlab.options.decoders import own_decoder
from parlab.options.devices import TrainerOptions, default_workers, make_trainer, weights_dtype
from parlab.predictions.files import Json
from parlab.predictions.metrics import Environment, Metrics, NormalizerVersion
from parlab.predictions.provenance import describe_decoder, device_name, hashes_of, versions
from parlab.predictions.results import Source, finish, recorded_environment
from parlab.predictions.shards import claim_directory, forget, unfinished
from parlab.predictions.subtitles import write_subtitles
from parlab.recognition.batches import AudioBatches
from parlab.recognition.padded import Ahead
from parlab.recognition.recognizer import Recognizer
from parlab.text.normalizer import normalizer
from parlab.tracking.runs import RunOptions, log_prediction, resolve_mode

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Job:
    """A prediction of which all that can be wrong has been checked.

    Attributes:
        options: as they were given.
        decoder: the one that was named, or the model's default.
        recordings: what the user asked for.
        utterances: what is decoded: the recordings, or pieces of them.
        timed: the same, with the durations that the files' headers know, for batches of a bounded length.
        trainer: Lightning's.
        precision: the name of the precision that is used.
    """

    options: PredictOptions
    decoder: Decoder
    recognizer: Recognizer
    recordings: list[Utterance]
    utterances: list[Utterance]
    timed: list[Utterance]
    trainer: Any
    precision: str

    @staticmethod
    def of(options: PredictOptions) -> Job:
        """Read model and data.

        Raises:
            UserError: they are unusable, or the options do not fit them or this machine.
        """
        resolve_mode(options.wandb)
        normalizer(options.normalizer)
        recordings = read_data(options.data, options.limit)
        check_some_audio(recordings)
        seed_everything(options.seed, verbose=False)
        recognizer = Recognizer.read(options.model, CPU, head=options.head).asked(options.prompt)
        utterances = options.cutting.pieces(recordings, recognizer.model.longest_seconds)
        plain = options.task == "asr" and not options.timestamps
        decoder = options.decoder or own_decoder(recognizer, options.model, options.head, plain)
        decoder.prepare(recognizer.model, CPU)
        writer = PredictionWriter(Path(options.out))
        callbacks: list[Any] = [writer, *([HostProfile(Path(options.out), writer)] if options.profile else [])]
        if options.progress:
            from lightning.pytorch.callbacks import RichProgressBar

            callbacks.append(RichProgressBar())
        devices = TrainerOptions(options.trainer, options.device, options.precision)
        trainer, precision = make_trainer(devices, callbacks, options.progress)
        timed = with_known_durations(utterances)
        return Job(options, decoder, recognizer, recordings, utterances, timed, trainer, precision)

    @property
    def max_seconds(self) -> float | None:
        """The longest audio that is decoded in one piece: the option's, or the model's window."""
        longest = min(self.options.max_seconds or math.inf, self.recognizer.model.longest_seconds or math.inf)
        return longest if math.isfinite(longest) else None

    def batches(self, rank: int = 0, world_size: int = 1) -> list[list[Utterance]]:
        """The batches of a rank."""
        options = self.options
        return prediction_batches(self.timed, options.together, options.batch_seconds, rank, world_size)

    def source(self) -> Source:
        """Where the prediction comes from. Called before the weights are converted, whose hash it holds."""
        options = self.options
        decoder = describe_decoder(self.decoder)
        normalize = normalizer(options.normalizer)
        version = NormalizerVersion(normalize.name, normalize.version)
        config: dict[str, Json] = {
            "model": options.model,
            "data": options.data,
            "decoder": vars(decoder),
            "normalizer": vars(version),
            "limit": options.limit,
            "max_seconds": self.max_seconds,
            "long_audio": {**vars(options.cutting), "subtitles": options.subtitles},
            "prompt": vars(options.prompt),
            "batch_size": options.together,
            "latency": options.latency or None,  # a folder's figures are all of one way of measuring
            "batch_seconds": options.batch_seconds,
            "seed": options.seed,
            "precision": self.precision,
        }
        if self.recognizer.head is not None:
            config["head"] = hash_model(self.recognizer.head.network)
        hashes = hashes_of(self.recognizer.model_hash(), self.utterances)
        return Source(
            decoder,
            options.model,
            options.data,
            version,
            hashes,
            config,
            replace(options, decoder=self.decoder).to_json(),
        )


def identity_of(source: Source) -> dict[str, Json]:
    """What must be the same for a restart: batching and the number of devices change no result, and may differ."""
    free = {"model", "data", "batch_size", "batch_seconds", "long_audio"}
    long_audio: Any = source.config["long_audio"]
    return {
        **{name: value for name, value in source.config.items() if name not in free},
        "long_audio": [long_audio["on"], long_audio["piece_seconds"]],
        "parlab": versions()["parlab"],
        "model_hash": source.hashes.model,
        "data_hash": source.hashes.data,
    }


def predict(options: PredictOptions) -> Metrics | None:
    """Decode data into the folder ``options.out``; return the metrics (None on ranks but the first).

    A second call with the same options keeps what is done and does the rest.

    Raises:
        UserError: model or data are unusable, or the folder holds results of another configuration.
    """
    job = Job.of(options)
    trainer, out = job.trainer, Path(options.out)
    source = job.source()
    job.recognizer.model.to_device(CPU, weights_dtype(job.precision))
    # 1. What is left to do. Every rank finds the same, also while the first one tidies up, because only what is decoded
    #    again is dropped.
    if trainer.is_global_zero:
        claim_directory(out, identity_of(source))
    todo = unfinished(out, job.batches())
    if trainer.is_global_zero:
        forget(out, todo)
    # 2. Decode it.
    batches = [batch for batch in job.batches(trainer.global_rank, trainer.world_size) if batch[0].id in todo]
    environment = _decode(job, batches) if todo else _nothing_to_do(job)
    if not trainer.is_global_zero:
        return None
    # 3. Merge the shards, and tell W&B.
    metrics, records = finish(out, source, environment, job.utterances, job.recordings)
    if options.subtitles:
        write_subtitles(out / "transcripts", records, options.subtitles)
    log_prediction(RunOptions(options.wandb, options.project, out), metrics, records, normalizer(options.normalizer))
    return metrics


def _environment(job: Job) -> Environment:
    return Environment(
        batch_size=job.options.together,
        precision=job.precision,
        device=device_name(job.trainer.strategy.root_device),
        num_devices=job.trainer.world_size,
    )


def _decode(job: Job, batches: Sequence[Sequence[Utterance]]) -> Environment:
    """Decode this rank's batches with Lightning, into its shard."""
    trainer, model = job.trainer, job.recognizer.model
    if job.options.compile or job.options.encoder_graphs:
        model.compile_encoder("inductor" if job.options.compile else None, job.options.encoder_graphs)
    device = trainer.strategy.root_device
    # Lightning wants a batch on every rank, so one without work gets an empty one.
    dataset = AudioBatches(batches or [[]], model.sample_rate, model.min_samples, job.max_seconds)
    workers = 0 if job.options.latency else job.options.workers
    if workers is None:
        workers = min(default_workers(device, trainer.num_devices), len(batches))
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, pin_memory=device.type == "cuda")
    module = PredictModule(job.recognizer, job.decoder)
    trainer.predict(module, Ahead(loader, device), return_predictions=False)
    joules = module.joules  # before other ranks are waited for
    trainer.strategy.barrier("predicted")
    peak = trainer.strategy.reduce(torch.tensor(peak_memory(device), device=device), reduce_op="max")
    energy = math.nan if joules is None and module.audio_seconds else joules or 0.0  # a rank without work used none
    used = torch.tensor([energy, module.audio_seconds], device=device)
    return replace(
        _environment(job),
        peak_memory_bytes=int(peak),
        joules_per_audio_hour=_per_hour(*trainer.strategy.reduce(used, reduce_op="sum").tolist()),
    )


def _per_hour(joules: float, audio_seconds: float) -> float | None:
    """Energy per hour of audio; None where a device did not report it (NaN), or nothing was decoded."""
    return 3600 * joules / audio_seconds if joules > 0 and audio_seconds > 0 else None


def _nothing_to_do(job: Job) -> Environment:
    """The figures are those of the run that did the work."""
    recorded = recorded_environment(Path(job.options.out))
    return recorded if recorded.device is not None else _environment(job)
