"""What is timed on one duration: our decoders, ESPnet's, the bare matrix products, the stages before the search."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from parlab.commands.bench.baselines import espnet_ar, espnet_par
from parlab.commands.bench.cases import Case
from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.timing import SearchShape, bare_attention, bare_products
from parlab.decode import AR, PAR, CTCBeam, Decoder, Greedy, Rescore, Speculative
from parlab.recognition.recognizer import Recognizer


@dataclass(frozen=True)
class Candidate:
    """A task with its name, the utterances that it decodes, and the number of times it is timed."""

    name: str
    task: Callable[[], Any]
    batch: int
    repeats: int


def reference_par(beam: int, parallel: int = -1) -> PAR:
    """ESPnet's setting, with which all PAR searches are compared."""
    return PAR.espnet(beam_size=beam, max_mask_parallel=parallel)


def our_candidates(recognizer: Recognizer, one: Case, many: Case | None, options: BenchOptions) -> Iterator[Candidate]:
    """Every decoder on one utterance, some in batches; PAR also on weights in bfloat16."""
    tokens, beam, repeats = -one.tokens, options.beam, options.repeats  # AR's length is fixed: random weights never end
    alone: dict[str, Decoder] = {
        "greedy": Greedy(),
        "par": reference_par(beam),
        "par joint": PAR(threshold=0.99, beam_size=beam),
        "speculative": Speculative(maxlenratio=tokens),
        "rescore": Rescore(beam_size=beam),
        "ctc_beam": CTCBeam(beam_size=beam),
        "ar attention": AR(beam_size=beam, ctc_weight=0.0, maxlenratio=tokens),
        "ar joint": AR(beam_size=beam, ctc_weight=0.3, maxlenratio=tokens),
        **{f"par, {cap} masks at a time": reference_par(beam, cap) for cap in options.parallel if cap > 0},
    }
    half = replace(recognizer, model=copy.deepcopy(recognizer.model).to(torch.bfloat16))
    for name, decoder in alone.items():
        yield Candidate(f"ours: {name}", _search(recognizer, decoder, one), 1, repeats)
    yield Candidate("ours: par, bfloat16", _search(half, reference_par(beam), one), 1, repeats)
    if many is None:
        return
    for name in ("greedy", "par", "par joint", "ar joint"):
        yield Candidate(f"ours: {name}, batch", _search(recognizer, alone[name], many), len(many), repeats)
    yield Candidate("ours: par, bfloat16, batch", _search(half, reference_par(beam), many), len(many), repeats)


def _search(recognizer: Recognizer, decoder: Decoder, case: Case) -> Callable[[], Any]:
    """The search alone, on states of the model's own precision."""
    dtype = next(recognizer.model.parameters()).dtype
    encoded = replace(case.encoded, states=case.encoded.states.to(dtype))
    return lambda: recognizer.decode(decoder, encoded)


def espnet_candidates(recognizer: Recognizer, one: Case, options: BenchOptions) -> Iterator[Candidate]:
    """ESPnet's searches, one utterance at a time; nothing where ``espnet_repeats`` is 0."""
    if options.espnet_repeats <= 0:
        return
    model, beam = recognizer.model, options.beam
    par = reference_par(beam)
    attention = AR(beam_size=beam, ctc_weight=0.0, maxlenratio=-one.tokens)
    joint = replace(attention, ctc_weight=0.3)
    tasks: dict[str, Callable[[], Any]] = {
        "par, driver mended": lambda: espnet_par(model, one.encoded, par),
        "ar attention": lambda: espnet_ar(model, one.encoded, attention),
        "ar joint": lambda: espnet_ar(model, one.encoded, joint),
    }
    for name, task in tasks.items():
        yield Candidate(f"espnet: {name}", task, 1, options.espnet_repeats)


def bare_candidates(recognizer: Recognizer, one: Case, options: BenchOptions) -> Iterator[Candidate]:
    """The matrix products of a PAR search of one utterance; on CPU only, where they bound it."""
    if recognizer.device.type != "cpu":
        return
    steps = int(reference_par(options.beam).max_seq_len) - 1
    frames = one.encoded.states.size(1)
    shape = SearchShape(one.tokens + 1, frames, one.masks, one.masks * options.beam, steps)
    linear, attention = bare_products(recognizer.model, shape), bare_attention(recognizer.model, shape)
    yield Candidate("bare products of par: linear layers", linear, 1, options.repeats)
    yield Candidate("bare products of par: attention", attention, 1, options.repeats)


def stage_candidates(recognizer: Recognizer, case: Case, options: BenchOptions) -> Iterator[Candidate]:
    """What comes before every search, each stage alone."""
    model, batch = recognizer.model, len(case)
    suffix = ", batch" if batch > 1 else ""
    stages: dict[str, Callable[[], Any]] = {
        "encoder and front end": lambda: model.encode(case.speech, case.lengths),
        "ctc head": lambda: model.ctc_log_probs(case.encoded.states),
    }
    for name, task in stages.items():
        yield Candidate(f"{name}{suffix}", task, batch, options.repeats)
