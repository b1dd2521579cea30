"""The options of ``predict``: they build its parser, are its argument, and are recorded for ``rerun``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.options.checks import check_above_zero, check_not_negative
from parlab.options.decoders import decoder_from, make_decoder
from parlab.options.parser import Parser
from parlab.predictions.files import Json
from parlab.predictions.provenance import describe_decoder
from parlab.predictions.subtitles import check_format
from parlab.recognition.long_audio import LongAudio
from parlab.recognition.prompting import PromptOptions

# Options of Lightning's Trainer that would lose a part of the work, or have no effect; with the values that do no harm.
_REFUSED: Mapping[str, tuple[Any, ...]] = {
    "fast_dev_run": (None, False, 0),
    "limit_predict_batches": (None, 1.0),
    "overfit_batches": (None, 0.0),
    "callbacks": (None, []),
    "enable_progress_bar": (None,),
    "max_time": (None,),
    "barebones": (None, False),
}
_OWN = ("decoder", "trainer")  # options that the parser gets by other ways
_ELSEWHERE = (
    "out",
    "trainer",
    "wandb",
    "project",
    "progress",
    "workers",
    "profile",
)  # they change no result, and are not recorded


@dataclass(frozen=True)
class PredictOptions:
    """What ``predict`` decodes, how, and where the results go.

    Attributes:
        model: ESPnet folder, run folder, checkpoint or hub id
        data: manifest, Kaldi folder, cuts or audio
        out: folder for the results; a restart goes on there
        head: folder of a draft head of the model, for greedy
        decoder: greedy, ar, par, ..., tuned; the tuned one where tune left one, else par where the model allows it
        batch_size: utterances decoded together
        batch_seconds: padded seconds decoded together
        latency: measure latency: one utterance at a time, loaded in the same process
        max_seconds: longest audio that is decoded in one piece
        long_audio: cut longer recordings at pauses, and join the results
        piece_seconds: longest piece; the model's window, else 20
        subtitles: also write DIR/transcripts/ID.FORMAT: srt, vtt, json
        language: S2T: language, as eng, or auto
        task: S2T: asr, or a translation as st_deu
        timestamps: S2T: let ar (without CTC) write times
        text_prompt: S2T: text that comes before
        normalizer: text normaliser for WER and CER
        limit: decode only so many utterances
        device: cpu, cuda, cuda:1, ...; the best by default
        precision: 32-true, tf32, bf16-true, 16-mixed, ...
        compile: fuse the encoder's kernels with torch.compile
        encoder_graphs: CUDA graphs of the encoder, one a size (experimental)
        workers: processes that load audio; as many as cores and device ask for by default
        profile: also write DIR/profile.json: CPU time outside the network
        seed: seed of every random generator
        wandb: W&B: auto, online, offline, off
        project: W&B project
        progress: show a progress bar
        trainer: options of Lightning's Trainer

    Raises:
        UserError: a limit leaves nothing to do, or a subtitle format is unknown.
    """

    model: str
    data: str | list[str]
    out: str
    decoder: Decoder | None = None
    head: str | None = None
    batch_size: int = 8
    batch_seconds: float = 240.0
    latency: bool = False
    max_seconds: float | None = 120.0
    long_audio: bool = False
    piece_seconds: float | None = None
    subtitles: list[str] = field(default_factory=list)
    language: str | None = None
    task: str = "asr"
    timestamps: bool = False
    text_prompt: str = ""
    normalizer: str = "none"
    limit: int | None = None
    device: str | None = None
    precision: str | None = None
    compile: bool = False
    encoder_graphs: bool = False
    workers: int | None = None
    profile: bool = False
    seed: int = 0
    wandb: str = "auto"
    project: str = "parlab"
    progress: bool = True
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_above_zero(self, "batch_size", "batch_seconds", "max_seconds", "limit", "piece_seconds")
        check_not_negative(self, "workers", "seed")
        for name, harmless in _REFUSED.items():
            value = self.trainer.get(name)
            # For Lightning 1 is one batch and 1.0 is all of them.
            if not any(value == other and type(value) is type(other) for other in harmless):
                raise UserError(
                    f"the option trainer.{name} is {value!r}, but predict decodes all of its data with its own "
                    "callbacks and bar, expected none; use --limit or --progress"
                )
        for form in self.subtitles:
            check_format(form)

    @property
    def together(self) -> int:
        """Utterances that are decoded together at most."""
        return 1 if self.latency else self.batch_size

    @property
    def cutting(self) -> LongAudio:
        """What is done with long recordings."""
        return LongAudio(self.long_audio, self.piece_seconds)

    @property
    def prompt(self) -> PromptOptions:
        """What is asked of an S2T model."""
        return PromptOptions(**{f.name: getattr(self, f.name) for f in fields(PromptOptions)})

    @staticmethod
    def parser() -> Parser:
        """The parser of the command line."""
        from lightning.pytorch import Trainer

        parser = Parser.of("predict", "Decode data with a model; write DIR/hypotheses.jsonl and DIR/metrics.json.")
        parser.add_subclass_arguments(
            Decoder,
            "decoder",
            required=False,
            help="greedy, ar, par, ..., tuned; the tuned one where tune left one, else par where the model allows it",
        )
        parser.add_class_arguments(PredictOptions, skip=set(_OWN))
        parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, sub_configs=True)
        switched_off = ("logger", "enable_checkpointing", "enable_model_summary", "use_distributed_sampler")
        parser.set_defaults({"trainer.devices": 1, **{f"trainer.{name}": False for name in switched_off}})
        return parser

    @staticmethod
    def parsed(options: Any) -> PredictOptions:
        """The options of a parsed command line."""
        given = {f.name: options[f.name] for f in fields(PredictOptions) if f.name not in _OWN}
        return PredictOptions(**given, decoder=decoder_from(options.decoder), trainer=vars(options.trainer))

    def to_json(self) -> dict[str, Json]:
        """What is recorded: all that may change a result."""
        recorded = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ELSEWHERE}
        return {**recorded, "decoder": vars(describe_decoder(self.decoder)) if self.decoder else None}

    @staticmethod
    def from_json(entry: Mapping[str, Any], **changes: Any) -> PredictOptions:
        """The recorded options, with ``changes``; ``out`` is one of them.

        Raises:
            UserError: an option does not exist any more.
        """
        recorded = entry["decoder"]
        decoder = make_decoder(recorded["name"], **recorded["options"]) if recorded else None
        return PredictOptions(**{**entry, "decoder": decoder, **changes})
