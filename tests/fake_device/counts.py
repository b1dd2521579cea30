"""What the make-believe device counts, and how many kernels CUDA starts for an operation of torch."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

ROOT = str(Path(__file__).resolve().parents[2])
# Operations that only make another view of the same memory, or memory without a value.
VIEWS = frozenset(
    """view _unsafe_view reshape transpose t permute expand unsqueeze squeeze slice select split split_with_sizes unbind
    alias detach as_strided unfold view_as_real view_as_complex diagonal lift_fresh _reshape_alias _conj resolve_conj
    resolve_neg chunk narrow unsafe_split empty empty_strided empty_like new_empty new_empty_strided set_ lift real
    imag""".split()
)
# Kernels of the operations that are more than one (an estimate from torch's sources, ATen/native/cuda).
KERNELS = {
    "logsumexp": 7,
    "topk": 3,
    "sort": 2,
    "nonzero": 4,
    "masked_fill": 2,
    "index_put": 2,
    "scatter_reduce": 2,
    "scatter": 2,
    "index_add": 2,
    "index_copy": 2,
    "bincount": 5,
    "_unique2": 6,
    "unique_dim": 6,
    "hann_window": 5,
    "isfinite": 2,
    "repeat_interleave": 4,
    "convolution": 2,
    "constant_pad_nd": 2,
    "_fft_r2c": 2,
}
# Operations that read as many numbers as they write, however large what they read from is.
PICKING = frozenset("index index_select gather embedding index_put index_copy scatter".split())
# Operations whose result has a size or a value that the host waits for.
WAITING = frozenset(
    """_local_scalar_dense nonzero _unique2 unique_dim unique_consecutive bincount is_nonzero equal masked_select""".split()
)


def plain(name: str) -> str:
    """The name of an operation without the sign of working in place."""
    return name[:-1] if name.endswith("_") and not name.startswith("_") else name


def asker() -> str:
    """The innermost line of parlab that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(f"{ROOT}/parlab/"):
            return f"{name[len(ROOT) + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


@dataclass
class Counts:
    """Counters of a run.

    Attributes:
        launches: kernels by phase.
        syncs: waits of the host, by phase.
        lines: waits of the host, by line and kind.
        mixed: operations that got tensors of two devices (an error on CUDA), by line.
        uploads: copies to the device that the host does not wait for, by line.
        flops: additions and multiplications of matrix products and convolutions, by phase.
        bytes: what all operations read and write, by phase.
    """

    launches: Counter[str] = field(default_factory=Counter)
    syncs: Counter[str] = field(default_factory=Counter)
    lines: Counter[str] = field(default_factory=Counter)
    mixed: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    flops: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    phase: str = "other"

    def work(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Add the arithmetic and the memory of an operation."""
        base = plain(func._overloadpacket.__name__)
        if base in VIEWS:
            return
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops[self.phase] += formula(*args, **kwargs, out_val=out)
        written = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        read = written if base in PICKING else [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        self.bytes[self.phase] += sum(x.nbytes for x in (*read, *written))

    def launch(self, name: str) -> None:
        base = plain(name)
        self.launches[self.phase] += 0 if base in VIEWS else KERNELS.get(base, 1)

    def sync(self, kind: str) -> None:
        self.syncs[self.phase] += 1
        self.lines[f"{asker()} [{kind}]"] += 1

    def mix(self, what: str) -> None:
        self.mixed[f"{what}: {asker()}"] += 1
