"""What is timed on one duration: our decoders, ESPnet's, the bare matrix products, the stages before the search."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from parlab.commands.bench.baselines import espnet_ar, espnet_par
from parlab.commands.bench.sizes import Input
from parlab.commands.bench.timing import bare_attention, bare_products
from parlab.decode import AR, PAR, CTCBeam, Decoder, Greedy, Rescore, Speculative
from parlab.model.hybrid import HybridModel

STEPS = 5  # ESPnet's max_seq_len


@dataclass(frozen=True)
class Candidate:
    """A task with its name, the utterances that it decodes, and how often it is timed."""

    name: str
    task: Callable[[], Any]
    batch: int
    repeats: int


def reference_par(beam: int, parallel: int = -1) -> PAR:
    """ESPnet's setting, with which all PAR searches are compared."""
    return PAR(reference="espnet", beam_size=beam, max_mask_parallel=parallel)


def our_candidates(
    model: HybridModel, one: Input, many: Input | None, beam: int, parallel: Sequence[int], repeats: int
) -> Iterator[Candidate]:
    """Every decoder on one utterance, some in batches; PAR also on weights in bfloat16."""
    tokens = -one.tokens  # AR's length is fixed: random weights would never end
    joint_ar = AR(beam_size=beam, ctc_weight=0.3, maxlenratio=tokens)
    alone: dict[str, Decoder] = {
        "greedy": Greedy(),
        "par": reference_par(beam),
        "par joint": PAR(threshold=0.99, beam_size=beam),
        "speculative": Speculative(maxlenratio=tokens),
        "rescore": Rescore(beam_size=beam),
        "ctc_beam": CTCBeam(beam_size=beam),
        "ar attention": AR(beam_size=beam, ctc_weight=0.0, maxlenratio=tokens),
        "ar joint": joint_ar,
        **{f"par, {cap} masks at a time": reference_par(beam, cap) for cap in parallel if cap > 0},
    }
    half = copy.deepcopy(model).to(torch.bfloat16)

    def search(decoder: Decoder, x: Input, net: HybridModel = model) -> Callable[[], Any]:
        states = x.states.to(next(net.parameters()).dtype)
        return lambda: decoder.decode(net, states, x.lengths, None, x.log_probs)

    for name, decoder in alone.items():
        yield Candidate(f"ours: {name}", search(decoder, one), 1, repeats)
    yield Candidate("ours: par, bfloat16", search(reference_par(beam), one, half), 1, repeats)
    if many is None:
        return
    batch = len(many.states)
    for name in ("greedy", "par", "par joint", "ar joint"):
        yield Candidate(f"ours: {name}, batch", search(alone[name], many), batch, repeats)
    yield Candidate("ours: par, bfloat16, batch", search(reference_par(beam), many, half), batch, repeats)


def espnet_candidates(model: HybridModel, one: Input, beam: int, repeats: int) -> Iterator[Candidate]:
    """ESPnet's searches, one utterance at a time; nothing where ``repeats`` is 0."""
    if repeats <= 0:
        return
    states, log_probs = one.states[0], one.log_probs[0]
    tasks: dict[str, Callable[[], Any]] = {
        "par, driver mended": lambda: espnet_par(model, states, log_probs, 0.99, beam, STEPS),
        "ar attention": lambda: espnet_ar(model, states, beam, 0.0, one.tokens),
        "ar joint": lambda: espnet_ar(model, states, beam, 0.3, one.tokens),
    }
    for name, task in tasks.items():
        yield Candidate(f"espnet: {name}", task, 1, repeats)


def bare_candidates(model: HybridModel, one: Input, masks: int, beam: int, repeats: int) -> Iterator[Candidate]:
    """The matrix products of a PAR search of one utterance; on CPU only, where they bound it."""
    frames, prefix, rows = one.states.size(1), one.tokens + 1, masks * beam
    if one.states.device.type == "cpu":
        linear = bare_products(model, 1, prefix, frames, rows, STEPS - 1, masks)
        attention = bare_attention(model, prefix, frames, rows, STEPS - 1)
        yield Candidate("bare products of par: linear layers", linear, 1, repeats)
        yield Candidate("bare products of par: attention", attention, 1, repeats)


def stage_candidates(model: HybridModel, x: Input, repeats: int) -> Iterator[Candidate]:
    """What comes before every search."""
    batch = len(x.states)
    suffix = ", batch" if batch > 1 else ""
    lengths = torch.full((batch,), x.speech.size(1), device=x.speech.device)
    yield Candidate(f"encoder and front end{suffix}", lambda: model.encode(x.speech, lengths), batch, repeats)
    yield Candidate(f"ctc head{suffix}", lambda: model.ctc_log_probs(x.states), batch, repeats)
