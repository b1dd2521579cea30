"""Joint CTC/attention loss (Watanabe et al. 2017, eq. 11): weight * CTC + (1 - weight) * attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parlab.model.families import espnet

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


def with_previous(model: HybridModel, inputs: Tensor, targets: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Put ``<sop>`` and the previous text (B, P), padded with -1, before rows that have one; it is no target."""
    sop = model.s2t.sop if model.s2t is not None else None
    lengths = (previous >= 0).sum(1).tolist()
    if sop is None or not any(lengths):
        return inputs, targets
    rows_in, rows_out = [], []
    for i, size in enumerate(lengths):
        before = torch.cat([inputs.new_tensor([sop]), previous[i, :size]]) if size else inputs.new_zeros(0)
        rows_in.append(torch.cat([before, inputs[i]]))
        rows_out.append(torch.cat([torch.full_like(before, -1), targets[i]]))
    padded = torch.nn.utils.rnn.pad_sequence(rows_in, batch_first=True)
    return padded, torch.nn.utils.rnn.pad_sequence(rows_out, batch_first=True, padding_value=-1)


def attention_loss(
    model: HybridModel,
    states: Tensor,
    frames: Tensor,
    text: Tensor,
    text_lengths: Tensor,
    previous: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy of the decoder and its token accuracy."""
    conf = model.config.get("model_conf", {})
    special = model.special
    pad = text.new_full((len(text), 1), -1)
    inputs = torch.cat([torch.full_like(pad, special.sos), text], 1).clamp(min=0)
    targets = torch.cat([text, pad], 1)
    targets.scatter_(1, text_lengths.unsqueeze(1), special.eos)
    if previous is not None:
        inputs, targets = with_previous(model, inputs, targets, previous)
    # The decoder masks what follows, so that padding at the right changes nothing before it.
    lengths = torch.full_like(text_lengths, inputs.size(1)) if previous is not None else text_lengths + 1
    logits, _ = model.decoder(states, frames, inputs, lengths)  # type: ignore[misc]
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
    previous: Tensor | None = None,
    ctc_text: Tensor | None = None,
) -> Losses:
    """Combine the losses with the weights of ESPnet's ``model_conf`` (``ctc_weight``, ``interctc_weight``).

    Args:
        text: (B, L), padded with -1; for S2T models with language, task and times.
        previous: (B, P) previous text of S2T models, all -1 where there is none.
        ctc_text: (B, C) what CTC learns in an S2T model, all -1 where it is not available: CTC leaves those out.
    """
    conf = model.config.get("model_conf", {})
    weight = float(conf.get("ctc_weight", 0.5)) if model.decoder is not None else 1.0
    ctc = attention = accuracy = None
    total = states.new_zeros((), dtype=torch.float32)
    if weight > 0.0:
        heard, sizes = (text, text_lengths) if ctc_text is None else (ctc_text, (ctc_text >= 0).sum(1))
        valid = torch.ones_like(sizes, dtype=torch.bool) if ctc_text is None else sizes > 0

        def of(layer: Tensor) -> Tensor:
            if not bool(valid.any()):
                return layer.sum() * 0.0
            return ctc_loss(model, layer[valid], frames[valid], heard[valid], sizes[valid])

        ctc = of(states)
        inter = float(conf.get("interctc_weight", 0.0))
        if inter > 0.0 and intermediate:
            extra = [of(layer) for layer in intermediate]
            total = total + weight * ((1 - inter) * ctc + inter * torch.stack(extra).mean())
        else:
            total = total + weight * ctc
    if weight < 1.0:
        attention, accuracy = attention_loss(model, states, frames, text, text_lengths, previous)
        total = total + (1 - weight) * attention
    return Losses(total, ctc, attention, accuracy)
