"""What a user asks of an S2T model (language, task, times, a text before), as prompts of the encoder and the decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.encoded import Prompts
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PromptOptions:
    """What is asked of an S2T (OWSM, Whisper) model.

    Attributes:
        language: language, as ``"eng"`` (Whisper: ``"en"``, Dolphin: ``"zh"`` or ``"zh-CN"``); ``"auto"`` asks the decoder for each utterance; None is the
            model's default (a multilingual Whisper's is ``"auto"``).
        task: ``"asr"``, or a translation such as ``"st_deu"`` (Whisper: ``"st_eng"``).
        timestamps: let the decoder write times (``ar`` without CTC).
        text_prompt: text that comes before; it conditions the decoder (and so the fills of PAR), not the draft.
    """

    language: str | None = None
    task: str = "asr"
    timestamps: bool = False
    text_prompt: str = ""


@dataclass(frozen=True)
class Prompting:
    """``PromptOptions`` that a model can fulfil; ``previous`` holds the token ids of the text before."""

    options: PromptOptions = PromptOptions()
    previous: tuple[int, ...] = ()

    @staticmethod
    def of(model: HybridModel, tokenizer: Tokenizer, options: PromptOptions) -> Prompting:
        """The options, checked against the model before any work.

        Raises:
            UserError: it is no S2T model, or it lacks the language, the task or time symbols.
        """
        previous = tuple(tokenizer.encode(options.text_prompt)) if options.text_prompt else ()
        prompting = Prompting(options, previous)
        if model.s2t is None and options != PromptOptions():
            raise UserError(
                "language, task, timestamps and text_prompt are for S2T (OWSM, Whisper) models, expected none of them with this "
                "ASR model; leave them out"
            )
        if model.s2t is not None:
            prompting._prompt(model, None if options.language == "auto" else options.language)
        return prompting

    def _prompt(self, model: HybridModel, language: str | None) -> tuple[int, ...]:
        assert model.s2t is not None
        return model.s2t.prompt(language, self.options.task, self.options.timestamps, self.previous)

    def for_encoder(self, model: HybridModel, batch: int) -> Prompts | None:
        """Prompts of B utterances where the encoder reads them (OWSM-CTC), else None."""
        if model.s2t is None or not model.s2t.encoder_prompt:
            return None
        language = self.options.language
        return (
            self._prompt(model, None if language == "auto" else language),
        ) * batch  # "unknown" is one of its languages

    def for_decoder(self, model: HybridModel, states: Tensor, frames: Tensor) -> Prompts:
        """Prompts of B utterances for the decoder: ``states`` (B, T, D) of ``frames`` (B,)."""
        if model.s2t is None:
            return (model.prompt,) * len(frames)
        language = self.options.language
        languages: Sequence[str | None] = [language] * len(frames)
        detected = language == "auto" or (language is None and model.s2t.detects)
        if detected or (model.s2t.regions and "-" not in str(language)):
            languages = [None] * len(frames)
            if model.decoder is not None:
                languages = identify_languages(model, states, frames, None if detected else language)
        return tuple(self._prompt(model, language) for language in languages)


def identify_languages(model: HybridModel, states: Tensor, frames: Tensor, language: str | None = None) -> list[str]:
    """The most probable language of each utterance: the decoder's first step after ``<sos>`` (ESPnet's Speech2Language).

    For Dolphin its region too, the next step: ``"zh-CN"``.

    Args:
        states: (B, T, D) encoder output.
        frames: (B,) frames of each utterance.
        language: the one that is known, where a region is asked for.

    Raises:
        UserError: the model has no language symbols.
    """
    if model.s2t is None or not model.s2t.languages:
        raise UserError(
            "this model has no language symbols, expected an OWSM or a multilingual Whisper model for language 'auto'; name no "
            "language"
        )
    decoder = model.rows
    cross = decoder.cross_cache(states, frames)

    def best(tokens: Tensor, table: Mapping[str, int]) -> list[str]:
        hidden, _ = decoder.prefill(tokens, cross)
        ids = torch.tensor(list(table.values()), device=states.device)
        names = list(table)
        return [names[i] for i in decoder.logits(hidden[:, -1])[:, ids].argmax(1).tolist()]

    start = torch.full((len(frames), 1), model.special.sos, device=states.device)
    known = [f"<{language.strip('<>')}>"] * len(frames) if language is not None else None
    languages = known or best(start, model.s2t.languages)
    if not model.s2t.regions:
        return languages
    spoken = torch.tensor([[model.s2t.languages[name]] for name in languages], device=states.device)
    regions = best(torch.cat([start, spoken], 1), model.s2t.regions)
    return [f"{name.strip('<>')}-{region.strip('<>')}" for name, region in zip(languages, regions, strict=True)]
