"""Kernel profiles of whole utterances, greedy and PAR."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from parlab.commands.bench.candidates import reference_par
from parlab.commands.bench.cases import decode_whole, make_case
from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.suite.models import Models, repeated
from parlab.commands.bench.suite.observe import kernel_profile
from parlab.commands.bench.suite.plan import Fields, Measurement
from parlab.decode import Decoder, Greedy


def kernel_cases(options: BenchOptions, device: torch.device) -> Iterator[Measurement]:
    """A profile of each decoder on the first size, in a batch from the middle; ``profile_DECODER.txt`` has all of it."""
    models = Models(device)
    size, precision = options.sizes[0], options.precisions[0]
    seconds, masks = options.durations_of(size)[0]
    batch = sorted(options.batches)[len(options.batches) // 2]
    decoders: dict[str, Decoder] = {"greedy": Greedy(), "par": reference_par(options.beam)}
    for name, decoder in decoders.items():

        @torch.inference_mode()
        def run(name: str = name, decoder: Decoder = decoder) -> Fields:
            recognizer = models.get(size, precision)
            many = repeated(make_case(recognizer, seconds, masks, 1), batch)
            task = partial(decode_whole, recognizer, decoder, many)
            task()
            found = kernel_profile(task, device)
            (Path(options.out) / f"profile_{name}.txt").write_text(found.table, encoding="utf-8")
            top = "; ".join(f"{key[:60]} x{count} {ms:.2f} ms" for key, count, ms in found.top)
            return {"launches": found.count, "device_ms": found.milliseconds, "longest": top}

        about: Fields = {"part": "kernels", "size": size, "precision": precision, "batch": batch, "decoder": name}
        yield Measurement(about, run)
