"""Whisper side by side: transformers' search, faster-whisper, and our decoders, whole windows, one run, the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.planned import PlannedHead
from parlab.commands.bench.rows import Row
from parlab.commands.bench.speech import joined
from parlab.commands.bench.timing import median, time_in_turn
from parlab.decode import AR, PAR, Decoder, Greedy, Speculative, usual_options
from parlab.errors import UserError
from parlab.model.families.whisper_model import WhisperModel
from parlab.model.families.whisper_peer import SHAPES, TransformersWhisper, faster_whisper, random_whisper
from parlab.recognition.padded import PaddedWaves
from parlab.recognition.recognizer import Recognizer

BEAMS = {"greedy": 1, "beam 5": 5}
TOKENS_PER_SECOND = 4.0  # of random weights, which never end
Tokens = list[tuple[int, ...]]


def whisper_recognizer(name: str, device: torch.device, options: BenchOptions) -> Recognizer:
    """One of Whisper's shapes with random weights and a planned draft, or a model's folder or hub id with its own weights and the
    head of the options.

    Raises:
        UserError: it is no Whisper model.
    """
    if name in SHAPES:
        model, tokenizer = random_whisper(SHAPES[name])
        model.to_device(device)
        return Recognizer(model, tokenizer, device, head=PlannedHead.of(model, tokenizer))
    read = Recognizer.read(name, device, head=options.head)
    if not isinstance(read.model, WhisperModel):
        raise UserError(
            f"{name} is a model of kind '{read.model.kind}', expected Whisper; name one of {', '.join(SHAPES)}"
        )
    return read


def waves_of(options: BenchOptions, model: WhisperModel, count: int) -> list[Tensor]:
    """Speech of ``--data``, about 20 s each; else noise as long as the window."""
    if options.data:
        found = joined(options.data, model.sample_rate, count)
        return [found[i % len(found)] for i in range(count)]
    generator = torch.Generator().manual_seed(0)
    size = int((model.window_seconds or 0.0) * model.sample_rate)
    return [0.1 * torch.randn(size, generator=generator) for _ in range(count)]


@dataclass(frozen=True)
class WhisperBench:
    """One batch through all that decodes it.

    Attributes:
        longest: tokens at most.
        random: whether the weights are random.
    """

    recognizer: Recognizer
    waves: Sequence[Tensor]
    longest: int
    random: bool
    faster_whisper: str | None = None

    @staticmethod
    def of(recognizer: Recognizer, options: BenchOptions, random: bool, batch: int) -> WhisperBench:
        """The bench of a model."""
        model = recognizer.model
        assert isinstance(model, WhisperModel)
        room = int(model.rows.spec.max_positions or 448) - len(model.prompt) - 1
        longest = min(room, int(TOKENS_PER_SECOND * (model.window_seconds or 0.0))) if random else room
        waves = waves_of(options, model, batch)
        return WhisperBench(recognizer, waves, longest, random, options.faster_whisper)

    @torch.inference_mode()
    def rows(self, repeats: int) -> list[Row]:
        """A row for each candidate; ``ratio`` is to transformers' greedy search."""
        # 1. The candidates, and what each writes.
        tasks = dict(self.tasks())
        written = {name: task() for name, task in tasks.items()}
        # 2. Time.
        seconds = time_in_turn(tasks, dict.fromkeys(tasks, repeats), self.recognizer.device)
        base = median(seconds["transformers: greedy"])
        rows = []
        for name, values in seconds.items():
            peer = f"transformers: {name.rpartition(' ar ')[2]}"
            same = None
            if " ar " in name:
                same = sum(a == b for a, b in zip(written[name], written[peer], strict=True))
            ms = 1000 * median(values) / len(self.waves)
            row = Row(
                seconds_of_audio=sum(map(self.recognizer.seconds, self.waves)) / len(self.waves),
                masks=0,
                tokens=sum(map(len, written[name])) / len(self.waves) if written[name] else None,
                what=name,
                batch=len(self.waves),
                ms_per_utterance=ms,
                ratio=median(values) / base,
                repeats=repeats,
                as_transformers=same,
            )
            rows.append(row)
        return rows

    def tasks(self) -> Iterator[tuple[str, Callable[[], Tokens]]]:
        """Name and task of each candidate that can decode the model; a task returns the tokens of each utterance."""
        recognizer, model = self.recognizer, self.recognizer.model
        assert isinstance(model, WhisperModel)
        speech, lengths = PaddedWaves.of(self.waves).on(recognizer.device)
        theirs, prompt = TransformersWhisper(model), model.prompt

        def transformers(beam: int) -> Tokens:
            features, _ = model.features(speech, lengths)
            return theirs.generate(features, prompt, beam, self.longest)

        def encoder() -> Tokens:
            recognizer.encode_padded(speech, lengths)
            return []

        def ours(decoder: Decoder) -> Tokens:
            return [h.tokens for h in recognizer.decode(decoder, recognizer.encode_padded(speech, lengths))]

        yield "encoder", encoder
        for name, beam in BEAMS.items():
            yield f"transformers: {name}", lambda beam=beam: transformers(beam)  # type: ignore[misc]
        for name, beam in BEAMS.items():
            decoder = AR(beam_size=beam, ctc_weight=0.0, maxlenratio=-self.longest)
            yield f"ours: ar {name}", lambda decoder=decoder: ours(decoder)  # type: ignore[misc]
        if recognizer.head is not None:
            for name, drafted in self._drafted().items():
                yield f"ours: {name}", lambda decoder=drafted: ours(decoder)  # type: ignore[misc]
        yield from self._faster()

    def _drafted(self) -> dict[str, Decoder]:
        """The decoders that a draft makes possible."""
        usual = {} if self.random else usual_options(Speculative, drafts=True)
        speculative = Speculative(**usual, maxlenratio=-self.longest)
        found: dict[str, Decoder] = {"draft": Greedy(), "speculative": speculative}
        if self.random:  # a decoder with random weights agrees with no draft: the planned masks are those of the head
            found["par"] = PAR(beam_size=5, ctc_weight=0.0)
            found["par, left to right"] = PAR(beam_size=5, ctc_weight=0.0, context="fills")
        else:
            found["par"] = self.recognizer.default_decoder()
        return found

    def _faster(self) -> Iterator[tuple[str, Callable[[], Tokens]]]:
        """faster-whisper, one utterance after the other, where the package and a converted model are at hand."""
        if self.faster_whisper is None:
            return
        half = next(self.recognizer.model.parameters()).dtype != torch.float32
        model = faster_whisper(self.faster_whisper, self.recognizer.device, half)

        def transcribe(beam: int) -> Tokens:
            found = []
            for wave in self.waves:
                fixed: dict[str, Any] = {
                    "temperature": 0.0,
                    "without_timestamps": True,
                    "condition_on_previous_text": False,
                }
                segments, _ = model.transcribe(wave.numpy(), beam_size=beam, **fixed)
                found.append(tuple(token for segment in segments for token in segment.tokens))
            return found

        for name, beam in BEAMS.items():
            yield f"faster-whisper: {name}", lambda beam=beam: transcribe(beam)  # type: ignore[misc]


def whisper_rows(name: str, device: torch.device, options: BenchOptions) -> list[Row]:
    """Rows of a shape or a model, at batch 1 and batched."""
    recognizer = whisper_recognizer(name, device, options)
    rows: list[Row] = []
    for batch in dict.fromkeys((1, options.batch)):
        found = WhisperBench.of(recognizer, options, name in SHAPES, batch).rows(options.repeats)
        rows += [replace(row, what=f"whisper {Path(name).name}: {row.what}") for row in found]
    return rows


def in_precision(recognizer: Recognizer, dtype: torch.dtype | None) -> Recognizer:
    """The recognizer with weights of another type."""
    if dtype is None:
        return recognizer
    return replace(recognizer, model=copy.deepcopy(recognizer.model).to_device(recognizer.device, dtype))
