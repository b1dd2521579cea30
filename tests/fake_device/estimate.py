"""What a GPU would need for a batch, by the counts of the make-believe device: an estimate, no measurement.

Every launch, every kernel of a graph and every wait has a fixed price; arithmetic and memory run at a share of the data sheet's
figures. Nothing overlaps, so that the sum is no lower bound of a good run and no upper bound of a bad one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fake_device.device import DEVICE, Pretend, pretend_device  # isort: skip  (before parlab: torch.inference_mode)

import torch

from parlab.commands.bench.cases import Case, make_case
from parlab.commands.bench.sizes import random_recognizer
from parlab.decode import AR, PAR, Decoder, Greedy
from parlab.decode.search.mode import search_mode
from tests.fake_device.counts import Counts

GRAPH = "graph"


@dataclass(frozen=True)
class Prices:
    """An H100 SXM; peak and bandwidth are the data sheet's for dense bfloat16 and HBM3.

    Attributes:
        launch, in_graph, sync: microseconds of a kernel's start, of one in a CUDA graph, and of a wait of the host.
        flops: a second at most; bandwidth: bytes a second at most.
        share_flops, share_bandwidth: what is reached of them.
        size: bytes of a number, for the four of the float32 that was counted.
    """

    launch: float = 5.0
    in_graph: float = 2.0
    sync: float = 25.0
    flops: float = 989e12
    bandwidth: float = 3.35e12
    share_flops: float = 0.3
    share_bandwidth: float = 0.5
    size: float = 2.0


@dataclass(frozen=True)
class Work:
    """What a piece of work costs in launches outside of graphs, kernels in graphs, waits, operations and bytes of float32."""

    launches: int
    in_graph: int
    syncs: int
    flops: int
    bytes: int

    @staticmethod
    def of(counts: Counts, replays: int) -> Work:
        """The counts; each of ``replays`` graphs is one launch."""
        outside = sum(n for phase, n in counts.launches.items() if phase != GRAPH)
        sums = (sum(c.values()) for c in (counts.syncs, counts.flops, counts.bytes))
        return Work(outside + replays, counts.launches[GRAPH], *sums)

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def milliseconds(self, prices: Prices, graphs: bool = True) -> tuple[float, float]:
        """Of starting and waiting, and of working: the slower of arithmetic and memory. Without graphs every kernel is a launch."""
        price = prices.in_graph if graphs else prices.launch
        starting = prices.launch * self.launches + price * self.in_graph + prices.sync * self.syncs
        arithmetic = self.flops / (prices.flops * prices.share_flops)
        memory = self.bytes * prices.size / 4 / (prices.bandwidth * prices.share_bandwidth)
        return starting / 1000, 1000 * max(arithmetic, memory)


def counted(mode: Pretend, task: Callable[[], Any]) -> Work:
    """The second run of a task: caches are warm after the first."""
    replays = 0

    def step(search: Any, state: Any) -> Any:
        nonlocal replays
        replays += 1
        before, mode.counts.phase = mode.counts.phase, GRAPH
        try:
            return search.step(state)
        finally:
            mode.counts.phase = before

    task()
    mode.counts = Counts()
    with search_mode(step=step):
        task()
    return Work.of(mode.counts, replays)


def estimates(size: str, seconds: float, masks: int, batch: int, ar: bool = True) -> dict[str, Work]:
    """The work of the encoder with the CTC head, and of each search after it; counting ``ar`` takes minutes."""
    case = make_case(random_recognizer(size, torch.device("cpu")), seconds, masks, batch)
    decoders: dict[str, Decoder] = {
        "greedy": Greedy(),
        "par, attention only": PAR.espnet(),
        "par": PAR(length_normalize=True),
    }
    if ar:
        decoders["ar"] = AR(maxlenratio=-case.tokens)
    with pretend_device() as mode:
        recognizer = random_recognizer(size, DEVICE)
        there = _moved(case)
        found = {"encoder": counted(mode, lambda: recognizer.encode_padded(there.speech, there.lengths))}
        for name, decoder in decoders.items():
            found[name] = counted(mode, lambda d=decoder: recognizer.decode(d, there.encoded))  # type: ignore[misc]
    return found


def _moved(case: Case) -> Case:
    moved = (case.speech.to(DEVICE), case.lengths.to(DEVICE), case.encoded.to(DEVICE))
    return Case(case.seconds, case.masks, case.tokens, *moved)


def rows(found: dict[str, Work], prices: Prices) -> list[list[str]]:
    """A row for each whole utterance: counts, milliseconds of a batch, and multiples of greedy with and without graphs."""
    lines = []
    greedy = {
        graphs: sum((found["encoder"] + found["greedy"]).milliseconds(prices, graphs)) for graphs in (True, False)
    }
    for name in (name for name in found if name != "encoder"):
        work = found["encoder"] + found[name]
        (starting, working), without = work.milliseconds(prices), sum(work.milliseconds(prices, graphs=False))
        counts = [f"{n:,}" for n in (work.launches, work.in_graph, work.syncs)]
        ratios = [f"{(starting + working) / greedy[True]:.2f}", f"{without / greedy[False]:.2f}"]
        lines.append([name, *counts, f"{work.flops / 1e9:,.0f}", f"{starting:.1f}", f"{working:.2f}", *ratios])
    return lines


def print_estimates() -> None:
    """A Markdown table for batches of 8 and 32 utterances of 10 s, librispeech256."""
    head = [
        "whole utterances",
        "launches",
        "kernels in graphs",
        "syncs",
        "GFLOP",
        "ms starting and waiting",
        "ms working",
    ]
    columns = ["batch", *head, "/ greedy", "/ greedy, no graphs"]
    print("| " + " | ".join(columns) + " |\n|" + " --- |" * len(columns))
    for batch in (8, 32):
        for row in rows(estimates("librispeech256", 10.0, 12, batch, ar=batch == 8), Prices()):
            print("| " + " | ".join([str(batch), *row]) + " |", flush=True)
