"""Files of weights: read without running code, checked, put into a model."""

from __future__ import annotations

import hashlib
import pickletools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.hybrid import HybridModel


def read_pickle(path: Path, what: str, remedy: str, allowed: Sequence[type] = ()) -> Any:
    """What ``torch.save`` wrote, read with ``weights_only=True``.

    Args:
        what: the name of such files in errors, as "weights".
        remedy: the end of an error about a broken file.
        allowed: classes beside torch's, which hold values and do nothing when they are made.

    Raises:
        UserError: the file is empty or broken, or holds a pickle that runs code.
    """
    try:
        if path.stat().st_size == 0:
            raise UserError(f"the {what} {path} is empty (0 bytes), expected what torch saved; {remedy}")
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a truncated zip, a pickle with code, no permission: all are unusable files
        text = str(error)
        if code := _code(text, path):
            raise UserError(
                f"the {what} {path} are refused: the file wanted to run code when it was read ({code[:80]}), expected tensors and plain values alone; have its author save the state "
                "dict alone, and take files from people you trust"
            ) from error
        if "WeightsUnpickler error" in text:  # the first line is torch's advice to read it unsafely
            text = text.split("WeightsUnpickler error:")[-1].strip()
        reason = (text.splitlines() or [type(error).__name__])[0][:120]
        raise UserError(f"the {what} {path} cannot be read ({reason}), expected what torch saved; {remedy}") from error


def _code(refusal: str, path: Path) -> str | None:
    """What a pickle would have called, from torch's words and, where torch does not know its protocol, from its opcodes."""
    if found := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)|Trying to call \w+ (\S+)", refusal):
        return found[1] or found[2]
    if "Unsupported operand" not in refusal:
        return None
    try:
        with path.open("rb") as file:  # nothing is run: opcodes are only listed
            if any(opcode.name in {"GLOBAL", "STACK_GLOBAL", "INST"} for opcode, _, _ in pickletools.genops(file)):
                return "a function of a pickle that torch did not write"
    except ValueError:  # no pickle
        pass
    return None


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict.

    Raises:
        UserError: it cannot be read safely, is no state dict, or holds values that are not finite.
    """
    state = read_pickle(path, "weights", "copy or download the file again")
    if isinstance(state, dict) and isinstance(state.get("model"), dict):  # ESPnet's checkpoint.pth
        state = state["model"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"the weights {path} hold no state dict of tensors; name the *.pth of the model")
    check_finite(state, path)
    return state


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a file of tensors, which cannot hold code.

    Raises:
        UserError: it cannot be read, or holds values that are not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"the weights {path} cannot be read ({str(error)[:100]}); download the file again") from error
    check_finite(state, path)
    return state


def hash_model(model: torch.nn.Module) -> str:
    """SHA-256 of names, shapes and values of a model's weights."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_finite(state: Mapping[str, Tensor], source: Path) -> None:
    """Refuse weights of a training that went wrong, which would decode to empty texts.

    Raises:
        UserError: a tensor holds NaN or infinity; the first one is named.
    """
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            count = int((~value.isfinite()).sum())
            raise UserError(
                f"the weights {source} hold values that are not finite: {name} has {count} of {value.numel()} that are "
                "NaN or infinite; take the weights of an earlier epoch, or download the file again"
            )


def load_weights(model: HybridModel, state: Mapping[str, Tensor], source: Path) -> None:
    """Load a state dict key for key.

    Raises:
        UserError: a key is missing or unexpected, or a shape differs (as when the token list has another size).
    """
    own = model.state_dict()
    state = {k: v for k, v in state.items() if k in own or not _without_effect(k, model)}
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    if wrong:
        key = wrong[0]
        hint = ""
        if key in {"ctc.ctc_lo.weight", "ctc.ctc_lo.bias", "decoder.embed.0.weight", "decoder.output_layer.weight"}:
            entries = state[key].size(0) if state[key].dim() else 0
            hint = f": the token list has {own[key].size(0)} entries, the weights {entries}"
        raise UserError(
            f"the weights {source} do not fit the config: {key} has shape {tuple(state[key].shape)}, expected "
            f"{tuple(own[key].shape)}{hint}; take config, token list and weights from the same training"
        )
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or extra:
        raise UserError(
            f"the weights {source} do not fit the config: {len(missing)} keys missing ({', '.join(missing[:3])}), "
            f"{len(extra)} unexpected ({', '.join(extra[:3])}); take both from the same training"
        )
    model.load_state_dict(dict(state))


def _without_effect(key: str, model: HybridModel) -> bool:
    """Keys of parts that ESPnet stores but the configuration leaves unused (a decoder at ctc_weight 1, ...)."""
    unused = {"decoder": model.decoder is None, "ctc": model.ctc is None}
    return unused.get(key.split(".")[0], False) or key.startswith(("criterion_", "error_calculator"))
