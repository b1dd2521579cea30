"""Joint CTC/attention loss (Watanabe et al. 2017, eq. 11): weight * CTC + (1 - weight) * attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parlab.model import espnet

if TYPE_CHECKING:
    from parlab.model.hybrid import HybridModel


@dataclass(frozen=True)
class Losses:
    """Losses of a batch, each a scalar tensor, averaged over utterances as ESPnet does."""

    total: Tensor
    ctc: Tensor | None
    attention: Tensor | None
    accuracy: Tensor | None


def ctc_loss(model: HybridModel, states: Tensor, frames: Tensor, text: Tensor, text_lengths: Tensor) -> Tensor:
    """CTC loss per utterance, averaged over the batch; an impossible alignment counts 0 (ESPnet's ``zero_infinity``)."""
    log_probs = model.ctc_log_probs(states).transpose(0, 1)
    targets = text.clamp(min=0)
    loss = torch.nn.functional.ctc_loss(
        log_probs, targets, frames, text_lengths, blank=model.special.blank, reduction="sum", zero_infinity=True
    )
    return loss / len(text)


def attention_loss(
    model: HybridModel, states: Tensor, frames: Tensor, text: Tensor, text_lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy of the decoder and its token accuracy."""
    conf = model.config.get("model_conf", {})
    special = model.special
    pad = text.new_full((len(text), 1), -1)
    inputs = torch.cat([torch.full_like(pad, special.sos), text], 1).clamp(min=0)
    targets = torch.cat([text, pad], 1)
    targets.scatter_(1, text_lengths.unsqueeze(1), special.eos)
    logits, _ = model.decoder(states, frames, inputs, text_lengths + 1)  # type: ignore[misc]
    logits = logits.float()
    criterion = espnet.label_smoothing_loss(
        size=model.vocab_size,
        padding_idx=-1,
        smoothing=conf.get("lsm_weight", 0.0),
        normalize_length=conf.get("length_normalized_loss", False),
    )
    valid = targets >= 0
    correct = (logits.detach().argmax(-1) == targets) & valid
    return criterion(logits, targets), correct.sum() / valid.sum()


def joint_loss(
    model: HybridModel,
    states: Tensor,
    frames: Tensor,
    intermediate: list[Tensor],
    text: Tensor,
    text_lengths: Tensor,
) -> Losses:
    """Combine the losses with the weights of ESPnet's ``model_conf`` (``ctc_weight``, ``interctc_weight``)."""
    conf = model.config.get("model_conf", {})
    weight = float(conf.get("ctc_weight", 0.5)) if model.decoder is not None else 1.0
    ctc = attention = accuracy = None
    total = states.new_zeros((), dtype=torch.float32)
    if weight > 0.0:
        ctc = ctc_loss(model, states, frames, text, text_lengths)
        inter = float(conf.get("interctc_weight", 0.0))
        if inter > 0.0 and intermediate:
            extra = [ctc_loss(model, layer, frames, text, text_lengths) for layer in intermediate]
            total = total + weight * ((1 - inter) * ctc + inter * torch.stack(extra).mean())
        else:
            total = total + weight * ctc
    if weight < 1.0:
        attention, accuracy = attention_loss(model, states, frames, text, text_lengths)
        total = total + (1 - weight) * attention
    return Losses(total, ctc, attention, accuracy)
