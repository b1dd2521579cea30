"""Prompts: what stands before the first decoded token, one for all utterances or one each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.hybrid import HybridModel
from parlab.text.s2t import TRANSCRIPTION

Prompt = tuple[int, ...] | Sequence[tuple[int, ...]] | None


def prompts_for(model: HybridModel, prompt: Prompt, batch: int) -> list[tuple[int, ...]]:
    """One prompt per utterance; the model's default where None is given.

    Raises:
        ValueError: another number of prompts than utterances, or an empty one.
    """
    if prompt is None:
        prompt = model.prompt
    prompts: list[tuple[int, ...]] = []
    if not prompt or isinstance(prompt[0], int):
        prompts = [tuple(prompt)] * batch  # type: ignore[arg-type]
    else:
        prompts = [tuple(p) for p in prompt]  # type: ignore[arg-type]
    if len(prompts) != batch or not all(prompts):
        raise ValueError(f"got {len(prompts)} prompts for {batch} utterances, expected one non-empty prompt each")
    return prompts


def pad_tokens(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token rows to (B, L), padded with 0 at the right, and lengths (B,)."""
    lengths = [len(row) for row in rows]
    width = max(lengths, default=0)
    padded = [list(row) + [0] * (width - len(row)) for row in rows]
    shape = (len(rows), width)
    return torch.tensor(padded, dtype=torch.long, device=device).view(shape), torch.tensor(lengths, device=device)


@dataclass(frozen=True)
class Prompting:
    """What a user asks of an S2T model.

    Attributes:
        language: ``"eng"``, ...; ``"auto"`` asks the decoder for each utterance; None is the model's default.
        task: ``"asr"``, or a translation such as ``"st_deu"``.
        timestamps: let the decoder write times (``ar`` without CTC).
        previous: ids of a text that comes before; it conditions the decoder (and so the fills of PAR), not the draft.
    """

    language: str | None = None
    task: str = "asr"
    timestamps: bool = False
    previous: tuple[int, ...] = ()

    def for_encoder(self, model: HybridModel, batch: int) -> list[tuple[int, ...]] | None:
        """Prompts of B utterances where the encoder reads them (OWSM-CTC), else None.

        Raises:
            UserError: the model is no S2T model and something was asked of it, or it lacks the language or the task.
        """
        if model.s2t is None:
            if self != Prompting():
                raise UserError(
                    "language, task, timestamps and text_prompt are for S2T (OWSM) models, expected none of them with this "
                    "ASR model; leave them out"
                )
            return None
        if not model.s2t.encoder_prompt:
            return None
        language = None if self.language == "auto" else self.language  # "unknown" is one of its languages
        return [model.s2t.prompt(language, self.task, self.timestamps, self.previous)] * batch

    def for_decoder(self, model: HybridModel, encoder_out: Tensor, lengths: Tensor) -> list[tuple[int, ...]] | None:
        """Prompts of B utterances for the decoder, or None for an ASR model's.

        Raises:
            UserError: the model lacks the language or the task.
        """
        if model.s2t is None:
            return None
        languages: Sequence[str | None] = [self.language] * len(lengths)
        if self.language == "auto" and model.decoder is not None:
            languages = identify_languages(model, encoder_out, lengths)
        elif self.language == "auto":
            languages = [None] * len(lengths)
        return [model.s2t.prompt(name, self.task, self.timestamps, self.previous) for name in languages]


def identify_languages(model: HybridModel, encoder_out: Tensor, lengths: Tensor) -> list[str]:
    """The most probable language of each utterance: the decoder's first step after ``<sos>`` (ESPnet's Speech2Language).

    Raises:
        UserError: the model has no language symbols.
    """
    if model.s2t is None or not model.s2t.languages:
        raise UserError(
            "this model has no language symbols, expected an OWSM model for language 'auto'; name no language"
        )
    decoder = model.rows
    start = torch.full((len(lengths), 1), model.special.sos, device=encoder_out.device)
    hidden, _ = decoder.prefill(start, decoder.cross_cache(encoder_out, lengths))
    ids = torch.tensor(list(model.s2t.languages.values()), device=encoder_out.device)
    best = decoder.logits(hidden[:, 0])[:, ids].argmax(1).tolist()
    names = list(model.s2t.languages)
    return [names[i] for i in best]


def check_transcription(model: HybridModel, prompt: Prompt, what: str) -> None:
    """Refuse what a CTC draft cannot do: an S2T model's CTC head knows transcription alone.

    Raises:
        UserError: the prompt asks for another task.
    """
    if model.s2t is None or model.s2t.encoder_prompt:
        return
    for each in prompts_for(model, prompt, 1 if prompt is None or isinstance(prompt[0], int) else len(prompt)):
        other = [task for task in model.s2t.tasks_of(each) if task != TRANSCRIPTION]
        if other:
            raise UserError(
                f"the task is {other[0]}, but {what} uses the CTC head, which only transcribes (<asr>); decode with ar and "
                "ctc_weight 0"
            )
