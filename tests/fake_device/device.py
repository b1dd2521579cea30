"""The device: tensors that say they lie on it, around tensors of the CPU that hold the values.

A dispatch mode runs every operation on the inner tensors, and notices what CUDA would refuse or wait for.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from tests.fake_device.counts import WAITING, Counts, asker

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
RECURRENT = {torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu}
SIZED_BY_HOST = {"_pack_padded_sequence", "_pad_packed_sequence"}


class _Backend(backend_registration._DummyBackendModule):  # type: ignore[misc]
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]

    def is_autocast_enabled(self) -> bool:
        return False

    def set_device(self, index: int) -> None:
        pass

    def synchronize(self, device: Any = None) -> None:
        pass

    def device(self, index: int) -> Any:
        return contextlib.nullcontext()


backend_registration._setup_privateuseone_for_python_backend("pretend", _Backend())
torch.__future__.set_overwrite_module_params_on_conversion(True)  # .data = would keep the inner tensor
torch.inference_mode = torch.no_grad  # type: ignore[assignment, misc]  # a wrapper made there is no view of one made outside
warnings.filterwarnings("ignore")
DEVICE = torch.device("pretend", 0)
_modes: list[Pretend] = []


class DeviceTensor(Tensor):
    """A tensor on the device; ``inner`` holds its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
            requires_grad=False,
        )
        made.inner = inner
        return made

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.inner})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not _modes:
            raise RuntimeError(f"{func} on the make-believe device outside of it")
        return _modes[-1].run(func, args, kwargs or {})


def inner(x: Any) -> Any:
    return x.inner if isinstance(x, DeviceTensor) else x


def on_device(x: Any) -> Any:
    return DeviceTensor(x) if isinstance(x, Tensor) and not isinstance(x, DeviceTensor) else x


class Pretend(TorchDispatchMode):
    """Runs operations on the inner tensors and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    def __enter__(self) -> Pretend:
        _modes.append(self)
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()  # type: ignore[return-value]

    def __exit__(self, *error: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        _modes.pop()
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = func._overloadpacket.__name__
        if name == "_to_copy":
            return self._copied(func, args[0], kwargs)
        flat, spec = tree_flatten((args, kwargs))
        mine = [x for x in flat if isinstance(x, DeviceTensor)]
        cpu = [x for x in flat if isinstance(x, Tensor) and not isinstance(x, DeviceTensor)]
        a, k = tree_unflatten([inner(x) for x in flat], spec)
        if name in ("_copy_from", "copy_"):
            if isinstance(args[0], DeviceTensor) != isinstance(args[1], DeviceTensor):
                self._crossed(k.get("non_blocking") or (len(args) > 2 and args[2]), "copy_", "uploads" if mine else "")
            elif mine:
                self.counts.launch(name)
            func(*a, **k)
            return args[0]
        if name == "_local_scalar_dense":
            if mine:
                self.counts.sync("item")
            return func(*a)
        # 1. Where the result lies; what CUDA would refuse.
        wanted = kwargs.get("device")
        result_on_device = bool(mine) if wanted is None else torch.device(wanted).type == DEVICE.type
        if mine and cpu:
            self._check_mixed(name, args, cpu)
        # 2. The operation itself, on the CPU.
        if "device" in k:
            k = {**k, "device": torch.device("cpu")}
        k.pop("pin_memory", None)
        out = func(*a, **k)
        # 3. What it costs.
        if result_on_device:
            masks = name in INDEXING and any(
                isinstance(x, Tensor) and x.dtype in (torch.bool, torch.uint8) for x in args[1]
            )
            repeats = name == "repeat_interleave" and kwargs.get("output_size") is None
            if name in WAITING or masks or repeats:
                self.counts.sync(name)
            self.counts.launch(name)
            self.counts.work(func, a, k, out)
        # 4. Working in place gives the same object back.
        written = [
            i for i, x in enumerate(func._schema.arguments) if x.alias_info is not None and x.alias_info.is_write
        ]
        returns = func._schema.returns
        if written and len(returns) == 1 and returns[0].alias_info is not None:
            i = written[0]
            return args[i] if i < len(args) else kwargs[func._schema.arguments[i].name]
        if name == "_pack_padded_sequence":  # CUDA too has the sizes on the host
            return on_device(out[0]), out[1]
        return tree_map(on_device, out) if result_on_device else out

    def _copied(self, func: Any, source: Tensor, kwargs: Any) -> Any:
        """``Tensor.to``: a kernel on the device, or a copy between devices."""
        wanted = kwargs.get("device")
        target = source.device.type if wanted is None else torch.device(wanted).type
        out = func(inner(source), **{k: v for k, v in kwargs.items() if k not in ("device", "pin_memory")})
        here = isinstance(source, DeviceTensor)
        if here and target == DEVICE.type:
            self.counts.launch("_to_copy")
            return DeviceTensor(out)
        if here or target == DEVICE.type:
            self._crossed(kwargs.get("non_blocking"), "to host" if here else "to device", "" if here else "uploads")
        return out if here or target != DEVICE.type else DeviceTensor(out)

    def _crossed(self, non_blocking: Any, kind: str, asynchronous: str) -> None:
        """A copy between devices; the host waits, unless it only hands memory over."""
        if asynchronous and non_blocking:
            self.counts.uploads[asker()] += 1
        else:
            self.counts.sync(kind)

    def _check_mixed(self, name: str, args: Any, cpu: list[Tensor]) -> None:
        large = [x for x in cpu if x.dim() > 0 and name not in SIZED_BY_HOST]
        if name in INDEXING and isinstance(args[0], DeviceTensor):  # CUDA moves indices of the host, and waits
            if any(isinstance(x, Tensor) and not isinstance(x, DeviceTensor) for x in args[1]):
                self.counts.sync("index moved")
            large = [x for x in args[2:3] if isinstance(x, Tensor) and not isinstance(x, DeviceTensor) and x.dim() > 0]
        if large:
            self.counts.mix(f"{name} {[tuple(x.shape) for x in large]}")


class _Functions(TorchFunctionMode):
    """Functions that choose a kernel by the type of the device below Python: counted as CUDA would run them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.tolist and isinstance(args[0], DeviceTensor):
            _modes[-1].counts.sync("tolist")
            return args[0].inner.tolist()
        if func is Tensor.numpy and isinstance(args[0], DeviceTensor):
            raise TypeError(f"a tensor on the device has no numpy array: {asker()}")
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return self._made(func, args, kwargs)
        if func is torch.stft and isinstance(args[0], DeviceTensor):
            return self._as_one(func, args, kwargs, 4)
        if func is torch.nn.functional.scaled_dot_product_attention and isinstance(args[0], DeviceTensor):
            q, k, v = args[:3]
            counts = _modes[-1].counts
            counts.flops[counts.phase] += 2 * q[..., 0].numel() * k.size(-2) * (q.size(-1) + v.size(-1))
            counts.bytes[counts.phase] += sum(x.nbytes for x in (q, k, v, q))
            return self._as_one(func, args, kwargs, 3 if kwargs.get("attn_mask") is not None else 1)
        if func in RECURRENT and isinstance(args[0], DeviceTensor):
            return self._as_one(func, args, kwargs, 8, mixed=True)  # its sizes lie on the host
        if func is Tensor.to:  # "pretend" is the first device
            args = tuple(DEVICE if isinstance(x, torch.device) and x.type == DEVICE.type else x for x in args)
        return func(*args, **kwargs)

    @staticmethod
    def _made(func: Any, args: Any, kwargs: Any) -> Any:
        target = torch.device(kwargs["device"]).type
        if isinstance(args[0], DeviceTensor):
            return args[0] if target == DEVICE.type else args[0].inner
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            made = func(*args, **{**kwargs, "device": torch.device("cpu")})
        if target != DEVICE.type:
            return made
        _modes[-1].counts.sync("torch.tensor")
        return DeviceTensor(made)

    @staticmethod
    def _as_one(func: Any, args: Any, kwargs: Any, kernels: int, mixed: bool = False) -> Any:
        counts = _modes[-1].counts
        everything = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        if not mixed and not all(isinstance(x, DeviceTensor) for x in everything):
            counts.mix(func.__name__)
        counts.launches[counts.phase] += kernels
        with torch._C.DisableTorchFunction(), _disable_current_modes():
            return tree_map(on_device, func(*tree_map(inner, args), **tree_map(inner, kwargs)))


@contextlib.contextmanager
def pretend_device() -> Iterator[Pretend]:
    """Within it ``DEVICE`` works; yields the mode, whose ``counts`` may be replaced."""
    mode = Pretend()
    with _Functions(), mode:
        yield mode
