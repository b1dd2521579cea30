"""Copies between the host and a device, packed: every copy that the host waits for costs as much as many kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(device: torch.device, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of the host on a device, by one copy that the host does not wait for.

    Args:
        tensors: of one type.
    """
    if device.type == "cpu" or not tensors:
        return tensors
    flat = torch.cat([x.reshape(-1) for x in tensors])
    if device.type == "cuda":  # only from pinned memory does the host not wait
        flat = flat.pin_memory()
    return _divide(flat.to(device, non_blocking=True), tensors)


def numbers_on(device: torch.device, *rows: Sequence[int]) -> tuple[Tensor, ...]:
    """Lists of whole numbers as tensors on a device, by one copy."""
    return to_device(device, *(torch.tensor(list(row), dtype=torch.long) for row in rows))


def to_host(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors of a device on the host, by one copy: the one wait of the host.

    They travel as float64, which holds float32, bool and whole numbers below 2^53 exactly.
    """
    if not tensors or tensors[0].device.type == "cpu":
        return tensors
    flat = torch.cat([x.reshape(-1).double() for x in tensors]).cpu()
    return tuple(part.to(x.dtype) for part, x in zip(_divide(flat, tensors), tensors, strict=True))


def _divide(flat: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Parts of a flat tensor, in the shapes of other tensors."""
    return tuple(part.view(x.shape) for part, x in zip(flat.split([x.numel() for x in like]), like, strict=True))
