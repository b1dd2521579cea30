"""Joint CTC/attention loss (Watanabe et al. 2017, eq. 11): weight * CTC + (1 - weight) * attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from parlab.model.families import espnet
from parlab.text.s2t import S2TSymbols
from parlab.text.targets import Targets
from parlab.types import SpecialTokens


class TrainableModel(Protocol):
    """What the losses need of a hybrid model (``HybridModel`` has it)."""

    special: SpecialTokens
    vocab_size: int
    s2t: S2TSymbols | None

    @property
    def config(self) -> Mapping[str, Any]:
        """ESPnet's training configuration; ``model_conf`` holds the weights of the losses."""
        ...

    @property
    def decoder(self) -> nn.Module | None:
        """The attention decoder, where there is one."""
        ...

    def backward_decoder(self) -> tuple[nn.Module, float] | None:
        """A decoder that reads a text from its end, and its share of the attention loss (U2++), or None."""
        ...

    def ctc_log_probs(self, encoder_out: Tensor) -> Tensor:
        """(B, T, D) to log-posteriors (B, T, V), float32."""
        ...


@dataclass(frozen=True)
class Losses:
    """Losses of a batch, each a scalar tensor, averaged over utterances as ESPnet does."""

    total: Tensor
    ctc: Tensor | None
    attention: Tensor | None
    accuracy: Tensor | None


def ctc_loss(model: TrainableModel, states: Tensor, frames: Tensor, text: Tensor, text_lengths: Tensor) -> Tensor:
    """CTC loss per utterance, averaged over the batch; an impossible alignment counts 0 (ESPnet's ``zero_infinity``)."""
    log_probs = model.ctc_log_probs(states).transpose(0, 1)
    targets = text.clamp(min=0)
    loss = torch.nn.functional.ctc_loss(
        log_probs, targets, frames, text_lengths, blank=model.special.blank, reduction="sum", zero_infinity=True
    )
    return loss / len(text)


def with_previous(model: TrainableModel, inputs: Tensor, labels: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Put ``<sop>`` and the previous text (B, P), padded with -1, before rows that have one; it is no label."""
    sop = model.s2t.sop if model.s2t is not None else None
    lengths = (previous >= 0).sum(1).tolist()
    if sop is None or not any(lengths):
        return inputs, labels
    rows_in, rows_out = [], []
    for i, size in enumerate(lengths):
        before = torch.cat([inputs.new_tensor([sop]), previous[i, :size]]) if size else inputs.new_zeros(0)
        rows_in.append(torch.cat([before, inputs[i]]))
        rows_out.append(torch.cat([torch.full_like(before, -1), labels[i]]))
    return pad_sequence(rows_in, batch_first=True), pad_sequence(rows_out, batch_first=True, padding_value=-1)


def from_its_end(targets: Targets) -> Targets:
    """The texts (B, U) from their ends to their starts; padding stays at the right, and there is no previous text."""
    text, lengths = targets.text, targets.text_lengths.unsqueeze(1)
    index = lengths - 1 - torch.arange(text.size(1), device=text.device)
    return replace(targets, text=text.gather(1, index.clamp(min=0)).masked_fill(index < 0, -1), previous=None)


def attention_loss(model: TrainableModel, states: Tensor, frames: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Label-smoothed cross-entropy of the decoder and its token accuracy; U2++ mixes in that of its decoder from right to left."""
    assert model.decoder is not None, "the weight of CTC is 1 where there is no decoder"
    loss, accuracy = decoder_loss(model, model.decoder, (states, frames), targets)
    backward = model.backward_decoder()
    if backward is not None and backward[1] > 0.0:
        other, _ = decoder_loss(model, backward[0], (states, frames), from_its_end(targets))
        loss = (1 - backward[1]) * loss + backward[1] * other
    return loss, accuracy


def decoder_loss(
    model: TrainableModel, decoder: nn.Module, encoded: tuple[Tensor, Tensor], targets: Targets
) -> tuple[Tensor, Tensor]:
    """One decoder's cross-entropy and accuracy; ``encoded`` are states (B, T, D) and their frames (B,)."""
    text, text_lengths, previous = targets.text, targets.text_lengths, targets.previous
    conf = model.config.get("model_conf", {})
    special = model.special
    pad = text.new_full((len(text), 1), -1)
    inputs = torch.cat([torch.full_like(pad, special.sos), text], 1).clamp(min=0)
    labels = torch.cat([text, pad], 1)
    labels.scatter_(1, text_lengths.unsqueeze(1), special.eos)
    if previous is not None:
        inputs, labels = with_previous(model, inputs, labels, previous)
    # The decoder masks what follows, so that padding at the right changes nothing before it.
    lengths = torch.full_like(text_lengths, inputs.size(1)) if previous is not None else text_lengths + 1
    logits, _ = decoder(*encoded, inputs, lengths)
    logits = logits.float()
    criterion = espnet.label_smoothing_loss(
        size=model.vocab_size,
        padding_idx=-1,
        smoothing=conf.get("lsm_weight", 0.0),
        normalize_length=conf.get("length_normalized_loss", False),
    )
    valid = labels >= 0
    correct = (logits.detach().argmax(-1) == labels) & valid
    return criterion(logits, labels), correct.sum() / valid.sum()


def joint_loss(
    model: TrainableModel, states: Tensor, frames: Tensor, intermediate: list[Tensor], targets: Targets
) -> Losses:
    """Combine the losses with the weights of ESPnet's ``model_conf`` (``ctc_weight``, ``interctc_weight``).

    Args:
        states: (B, T, D) encoder output; ``frames`` (B,) counts the frames of each utterance.
        intermediate: outputs (B, T, D) of the layers with intermediate CTC.
    """
    conf = model.config.get("model_conf", {})
    weight = float(conf.get("ctc_weight", 0.5)) if model.decoder is not None else 1.0
    ctc = attention = accuracy = None
    total = states.new_zeros((), dtype=torch.float32)
    if weight > 0.0:
        text, lengths = targets.text, targets.text_lengths
        valid = None
        if targets.ctc_text is not None:
            text, lengths = targets.ctc_text, (targets.ctc_text >= 0).sum(1)
            valid = lengths > 0

        def of(layer: Tensor) -> Tensor:
            if valid is None:  # nothing is left out, and no answer of the device is waited for
                return ctc_loss(model, layer, frames, text, lengths)
            if not bool(valid.any()):
                return layer.sum() * 0.0
            return ctc_loss(model, layer[valid], frames[valid], text[valid], lengths[valid])

        ctc = of(states)
        inter = float(conf.get("interctc_weight", 0.0))
        if inter > 0.0 and intermediate:
            extra = [of(layer) for layer in intermediate]
            total = total + weight * ((1 - inter) * ctc + inter * torch.stack(extra).mean())
        else:
            total = total + weight * ctc
    if weight < 1.0:
        attention, accuracy = attention_loss(model, states, frames, targets)
        total = total + (1 - weight) * attention
    return Losses(total, ctc, attention, accuracy)
