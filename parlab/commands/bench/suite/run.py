"""The suite: its parts, one case after the other, each written as it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from parlab.commands.bench.options import PARTS, BenchOptions
from parlab.commands.bench.suite.ceilings import ceiling_cases
from parlab.commands.bench.suite.correctness import correctness_cases
from parlab.commands.bench.suite.kernels import kernel_cases
from parlab.commands.bench.suite.plan import Budget, Fields, Measurement
from parlab.commands.bench.suite.results import Results
from parlab.commands.bench.suite.speed import speed_measurements
from parlab.commands.bench.suite.whisper import whisper_cases


def run_suite(options: BenchOptions, device: torch.device) -> int:
    """Measure what fits into ``options.minutes``; 0 when no case failed, 1 otherwise."""
    budget = Budget(60 * options.minutes)
    results = Results(Path(options.out), options, device)
    known: dict[str, float] = {}  # seconds per unit of cost, of the last case of each family
    for case in measurements(options, device, budget):
        expected = known.get(case.family, 0.0) * case.cost if case.family else 0.0
        if budget.left <= 0 or expected > budget.left:
            results.add({**case.about, "skipped": f"{max(budget.left, 0):.0f} s left"})
            continue
        start = time.monotonic()
        results.add({**case.about, **attempt(case, device)})
        known[case.family] = (time.monotonic() - start) / case.cost
    print(f"wrote {options.out}/suite.json, suite.csv and suite.md")
    return 1 if results.failed else 0


def measurements(options: BenchOptions, device: torch.device, budget: Budget) -> Iterator[Measurement]:
    """The cases of all parts that were asked for, each made when it is its turn."""
    parts = {
        "correctness": lambda: correctness_cases(options, device),
        "ceilings": lambda: ceiling_cases(options, device),
        "speed": lambda: speed_measurements(options, device, budget),
        "whisper": lambda: whisper_cases(options, device),
        "kernels": lambda: kernel_cases(options, device),
    }
    for part in PARTS if options.suite == "all" else [options.suite]:
        yield from parts[str(part)]()


def attempt(case: Measurement, device: torch.device) -> Fields:
    """The cells of a case. One that fails, as where the memory does not suffice, costs no other."""
    try:
        return case.run()
    except Exception as error:
        logging.getLogger(__name__).debug("a case of the suite failed", exc_info=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"}
