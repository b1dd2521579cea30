"""transformers' own search on the weights of a Whisper model of ours, and Whisper's published shapes with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.families import whisper
from parlab.model.families.whisper_model import WhisperFeatures, WhisperFrontend, WhisperModel
from parlab.text.tokenizer import Tokenizer
from parlab.text.whisper import WhisperText
from parlab.types import SpecialTokens

_MODEL = "transformers.models.whisper.modeling_whisper"
_TEXT = 50257  # text tokens of the multilingual vocabulary, before <|endoftext|>


@dataclass(frozen=True)
class WhisperShape:
    """Sizes of a model: mel bands, width, layers of encoder and decoder, heads, languages."""

    bands: int
    width: int
    encoder_layers: int
    decoder_layers: int
    heads: int
    languages: int = 99


# Table 1 of Radford et al. 2022; large-v3 and large-v3-turbo from their config.json.
SHAPES = {
    "tiny": WhisperShape(80, 384, 4, 4, 6),
    "base": WhisperShape(80, 512, 6, 6, 8),
    "small": WhisperShape(80, 768, 12, 12, 12),
    "medium": WhisperShape(80, 1024, 24, 24, 16),
    "large-v3": WhisperShape(128, 1280, 32, 32, 20, 100),
    "large-v3-turbo": WhisperShape(128, 1280, 32, 4, 20, 100),
}


def random_whisper(shape: WhisperShape, seed: int = 0) -> tuple[WhisperModel, Tokenizer]:
    """A model of a shape whose weights are random, in evaluation mode; it writes text tokens only and never ends."""
    # 1. The vocabulary: text, symbols, times, where the published ones are.
    languages = ["en", *(f"l{i}" for i in range(shape.languages - 1))]
    symbols = ["endoftext", "startoftranscript", *languages, "translate", "transcribe", "startoflm", "startofprev"]
    symbols += ["nospeech", "notimestamps"]
    names = [f"t{i}" for i in range(_TEXT)] + [f"<|{name}|>" for name in symbols]
    size = len(names) + 1501
    names += [f"<|{0.02 * i:.2f}|>" for i in range(1501)]
    index = {name: i for i, name in enumerate(names) if i >= _TEXT}
    text = WhisperText(
        index=index,
        eos=_TEXT,
        sos=_TEXT + 1,
        vocabulary=size,
        multilingual=True,
        language="<|en|>",
        names={},
        suppressed=list(range(_TEXT, size)),
        begin_suppressed=[],
        max_initial_time=None,
        window_seconds=30.0,
        max_positions=448,
    )
    # 2. The network.
    entries = {
        "vocab_size": size,
        "num_mel_bins": shape.bands,
        "d_model": shape.width,
        "encoder_layers": shape.encoder_layers,
        "decoder_layers": shape.decoder_layers,
        "encoder_attention_heads": shape.heads,
        "decoder_attention_heads": shape.heads,
        "encoder_ffn_dim": 4 * shape.width,
        "decoder_ffn_dim": 4 * shape.width,
    }
    encoder, decoder = whisper.empty_parts(whisper.read_config(entries))
    generator = torch.Generator().manual_seed(seed)
    for module in (encoder, decoder):
        for name, value in module.named_parameters():
            if value.dim() > 1:
                value.normal_(0.0, 0.02, generator=generator)
            else:
                value.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    parts = {
        "frontend": WhisperFrontend(WhisperFeatures(feature_size=shape.bands)),
        "encoder": encoder,
        "decoder": decoder,
    }
    own = {"token_list": names, "token_type": "word", "model_conf": {"ctc_weight": 0.0}}
    special = SpecialTokens(blank=text.eos, sos=text.sos, eos=text.eos, never=text.never())
    return WhisperModel(own, special, parts, text.symbols()).eval(), Tokenizer(names, "word")


class TransformersWhisper:
    """``WhisperForConditionalGeneration`` around the encoder and the decoder of a model of ours: the same weights, no copy."""

    def __init__(self, model: WhisperModel):
        self.own = model
        with torch.device("meta"):  # the parts that are made are put aside
            self.model: Any = whisper.load(_MODEL, "WhisperForConditionalGeneration")(model.encoder.config).eval()
        decoder: Any = model.decoder
        self.model.model.encoder, self.model.model.decoder = model.encoder, decoder
        if hasattr(decoder, "proj_out"):
            self.model.proj_out = decoder.proj_out
        else:
            self.model.proj_out.weight = decoder.embed_tokens.weight

    def generate(self, features: Tensor, prompt: Sequence[int], beam_size: int, longest: int) -> list[tuple[int, ...]]:
        """What transformers' search writes after ``prompt``, at most ``longest`` tokens.

        This is what ``generate`` of Whisper runs on a window, with its rules on suppressed tokens.

        Args:
            features: (B, frames, n_mels).
        """
        processors = "transformers.generation.logits_process"
        rules = self.own.s2t.rules if self.own.s2t is not None else None
        chosen = []
        if rules is not None and rules.begin_suppressed:
            first = whisper.load(processors, "SuppressTokensAtBeginLogitsProcessor")
            chosen.append(first(list(rules.begin_suppressed), len(prompt), device=str(features.device)))
        if rules is not None and rules.suppressed:
            never = whisper.load(processors, "SuppressTokensLogitsProcessor")
            chosen.append(never(list(rules.suppressed), device=str(features.device)))
        eos = self.own.special.eos
        options = whisper.load("transformers", "GenerationConfig")(
            decoder_start_token_id=self.own.special.sos,
            eos_token_id=eos,
            pad_token_id=eos,
            max_length=len(prompt) + longest,
            num_beams=beam_size,
        )
        found = whisper.load("transformers.generation.utils", "GenerationMixin").generate(
            self.model,
            features.transpose(1, 2).to(self.model.dtype),
            generation_config=options,
            logits_processor=whisper.load(processors, "LogitsProcessorList")(chosen),
            decoder_input_ids=torch.tensor([list(prompt)] * len(features), device=features.device),
        )
        rows = found[:, len(prompt) :].tolist()
        return [tuple(row[: row.index(eos)] if eos in row else row) for row in rows]


def faster_whisper(folder: str, device: torch.device, half: bool) -> Any:
    """faster-whisper's model of a folder that was converted for it, in float16 or float32.

    Raises:
        UserError: the package is not installed.
    """
    if find_spec("faster_whisper") is None:
        raise UserError(
            "the package faster-whisper is not installed; run `pip install faster-whisper`, or leave it out"
        )
    made = importlib.import_module("faster_whisper").WhisperModel
    kind = "float16" if half else "float32"
    return made(folder, device=device.type, compute_type=kind, cpu_threads=torch.get_num_threads())
