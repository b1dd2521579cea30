"""What the device can do at best: arithmetic, memory, launches, and the way to it and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from parlab.commands.bench.options import BenchOptions
from parlab.commands.bench.suite.plan import Fields, Measurement
from parlab.commands.bench.timing import median, time_in_turn
from parlab.options.devices import set_tf32

LAUNCHES = 1000


def ceiling_cases(options: BenchOptions, device: torch.device) -> Iterator[Measurement]:
    """A case for each ceiling."""
    large = device.type == "cuda"
    size, count = (8192, 2**28) if large else (256, 2**18)

    def milliseconds(task: Callable[[], object]) -> float:
        return 1000 * median(time_in_turn({"": task}, {"": options.repeats}, device)[""])

    def product(precision: str) -> Fields:
        dtype = torch.bfloat16 if precision == "bf16-true" else torch.float32
        set_tf32(precision == "tf32")
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        return {"tflops": 2 * size**3 / milliseconds(lambda: a @ b) / 1e9}

    def copy() -> Fields:
        source = torch.randn(count, device=device)
        target = torch.empty_like(source)
        return {"gbytes_per_second": 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) / 1e6}

    def launches() -> Fields:
        small = torch.zeros(8, device=device)
        return {"microseconds": milliseconds(lambda: [small.add_(1) for _ in range(LAUNCHES)]) * 1000 / LAUNCHES}

    def read_back() -> Fields:
        small = torch.zeros(8, device=device)
        return {"microseconds": 1000 * milliseconds(lambda: small[0].item())}

    def to_device() -> Fields:
        speech = torch.randn(32, 160000)
        pinned = speech.pin_memory() if large else speech
        return {"gbytes_per_second": speech.nbytes / milliseconds(lambda: pinned.to(device, non_blocking=True)) / 1e6}

    for precision in ("32-true", "tf32", "bf16-true"):
        about = {"part": "ceilings", "what": f"matrix product, {precision}"}
        yield Measurement(about, lambda precision=precision: product(precision))  # type: ignore[misc]
    yield Measurement({"part": "ceilings", "what": "copy within the device"}, copy)
    yield Measurement({"part": "ceilings", "what": "a launch"}, launches)
    yield Measurement({"part": "ceilings", "what": "reading one number back"}, read_back)
    yield Measurement({"part": "ceilings", "what": "copy to the device, pinned"}, to_device)
