"""``transcribe FILE ...``: the text of audio files, with what CTC was unsure of and what PAR filled in highlighted."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from parlab.commands.transcribe.shown import marked
from parlab.decode import Decoder
from parlab.errors import UserError
from parlab.options.checks import check_above_zero
from parlab.options.decoders import decoder_from, own_decoder
from parlab.options.devices import device_for, set_tf32
from parlab.options.libraries import quiet_libraries
from parlab.options.parser import Parser
from parlab.options.resources import shipped_model
from parlab.recognition.long_audio import LongAudio, cut_recording
from parlab.recognition.prompting import PromptOptions
from parlab.recognition.recognizer import Recognizer
from parlab.recognition.waveforms import read_waveform
from parlab.types import Failure, Hypothesis


@dataclass(frozen=True)
class TranscribeOptions:
    """What is transcribed, with which model.

    Attributes:
        files: audio files
        model: ESPnet folder, run folder, checkpoint or hub id; the small model that parlab ships by default
        head: folder of a draft head of the model
        device: cpu, cuda, cuda:1, ...; the best by default
        batch_size: pieces of a recording that are decoded together
        language: S2T: language, as eng, or auto
        task: S2T: asr, or a translation as st_deu
    """

    files: list[str]
    model: str | None = None
    head: str | None = None
    device: str | None = None
    batch_size: int = 8
    language: str | None = None
    task: str = "asr"

    def __post_init__(self) -> None:
        check_above_zero(self, "batch_size")


def main(argv: Sequence[str]) -> int:
    """Run ``transcribe``; 0 when every file was transcribed, 1 when some failed."""
    quiet_libraries()
    parser = Parser.of("transcribe", "Print the text of audio files.")
    parser.add_subclass_arguments(
        Decoder,
        "decoder",
        required=False,
        help="greedy, ar, par, ..., tuned; the tuned one where tune left one, else par",
    )
    parser.add_argument("files", nargs="+", type=str, help="audio files")
    parser.add_class_arguments(TranscribeOptions, skip={"files"})
    parsed = parser.read_with_decoder(argv)
    options = TranscribeOptions(**{name: parsed[name] for name in TranscribeOptions.__dataclass_fields__})
    if options.model is None:
        print("model: the small one that parlab ships, of spelled names, numbers and commands (AN4)", file=sys.stderr)
    set_tf32(False)
    name = options.model or shipped_model()
    recognizer = Recognizer.read(name, device_for(options.device), head=options.head)
    recognizer = recognizer.asked(PromptOptions(options.language, options.task))
    decoder = decoder_from(parsed.decoder) or own_decoder(recognizer, name, options.head, options.task == "asr")
    decoder.prepare(recognizer.model, recognizer.device)
    console = Console(soft_wrap=True, highlight=False)
    failed = 0
    for file in options.files:
        try:
            found = list(transcribe(recognizer, decoder, Path(file), options.batch_size))
        except UserError as error:
            print(f"failed: {file}: {error}", file=sys.stderr)
            failed += 1
            continue
        name = f"{file}: " if len(options.files) > 1 else ""
        console.print(marked(name, found, recognizer.tokenizer.token_list))
    return 1 if failed else 0


def transcribe(recognizer: Recognizer, decoder: Decoder, file: Path, batch_size: int) -> Iterator[Hypothesis]:
    """The hypotheses of a file's pieces: one, or those between the pauses of a long recording.

    Raises:
        UserError: the file is unusable, or a piece cannot be decoded.
    """
    model = recognizer.model
    longest = LongAudio(on=True).longest(model.longest_seconds)
    pieces = cut_recording(file, longest, model.sample_rate)
    for start in range(0, len(pieces), batch_size):
        waves = [read_waveform(piece.read(), model) for piece in pieces[start : start + batch_size]]
        for found in recognizer.recognize(decoder, waves):
            if isinstance(found, Failure):
                raise UserError(found.reason)
            yield recognizer.named(found, file.stem)
