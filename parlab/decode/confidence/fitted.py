"""Options of measures that were fitted to a model, in a file beside it: its temperature, and a learned combination.

``tune`` writes the file; ``posterior:file=DIR`` and ``learned:file=DIR`` read their options from it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import torch

from parlab.errors import UserError
from parlab.model.families.weights import hash_model
from parlab.model.hybrid import HybridModel
from parlab.model.packed import Fingerprint

FILE, VERSION = "confidence.json", 1
_OPTION = "file="
_hashes: WeakKeyDictionary[HybridModel, tuple[Fingerprint, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Fitted:
    """What a file holds.

    Attributes:
        measures: the options of each measure that it has any for.
        model: hash of the weights of the model that they were fitted to; empty where the file does not tell.
    """

    measures: dict[str, dict[str, str | float]]
    model: str


def with_fitted(text: str) -> str:
    """A measure's name and options, with the options that a file has for it in place of ``file=PATH``.

    Args:
        text: as ``learned:file=exp/model``; PATH is the file, or the folder that it lies in.

    Raises:
        UserError: there is no such file, or it has nothing for this measure.
    """
    name, options, file = _parts(text)
    if file is None:
        return text
    fitted = read_fitted(Path(file)).measures
    if name not in fitted:
        known = ", ".join(sorted(fitted)) or "none"
        raise UserError(
            f"{file} has no options of the measure '{name}', expected one of {known}; leave {_OPTION}{file} out"
        )
    return f"{name}:{','.join([*(f'{option}={value}' for option, value in fitted[name].items()), *options])}"


def check_fitted(text: str, model: HybridModel) -> None:
    """Refuse a measure whose file was fitted to other weights; weights that were converted to fewer bits cannot be compared.

    Args:
        text: the measure's name and options.

    Raises:
        UserError: the file names the hash of another model.
    """
    file = _parts(text)[2]
    if file is None:
        return
    wanted, own = read_fitted(Path(file)).model, _hash_of(model)
    if wanted and own and wanted != own:
        raise UserError(
            f"{file} was fitted to a model with the hash {wanted[:12]}, but this model has {own[:12]}, expected the same weights; run tune "
            f"on this model, or write the options out as {with_fitted(text)}"
        )


def _parts(text: str) -> tuple[str, list[str], str | None]:
    """The name of a measure, its options but for files, and the last file."""
    name, _, given = text.partition(":")
    options = given.split(",")
    files = [option.removeprefix(_OPTION) for option in options if option.startswith(_OPTION)]
    return name, [option for option in options if not option.startswith(_OPTION)], files[-1] if files else None


def _hash_of(model: HybridModel) -> str | None:
    """The hash of a model's weights, computed anew when they have changed; None where they are not those that were read."""
    weights = list(model.parameters())
    if any(x.dtype != torch.float32 for x in weights):
        return None
    known = _hashes.get(model)
    if known is None or not known[0].matches(weights):
        known = _hashes[model] = (Fingerprint(weights), hash_model(model))
    return known[1]


def read_fitted(path: Path) -> Fitted:
    """What a file holds, read anew when it has changed.

    Args:
        path: the file, or the folder that it lies in.

    Raises:
        UserError: it cannot be read, or another version of parlab wrote it.
    """
    path = path / FILE if path.is_dir() else path
    try:
        status = path.stat()
    except OSError as error:
        raise _refusal(path, error) from error
    return _read(path, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=16)
def _read(path: Path, stamp: tuple[int, int]) -> Fitted:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, measures = content["version"], content["measures"]
        found = {str(name): dict(options) for name, options in measures.items()}
        model = str(content.get("fitted_on", {}).get("model", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refusal(path, error) from error
    if version != VERSION:
        raise UserError(f"{path} is of version {version}, expected {VERSION}; make it anew with tune")
    return Fitted(found, model)


def _refusal(path: Path, error: Exception) -> UserError:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is none"
    return UserError(
        f"{path} cannot be read ({reason}), expected the {FILE} that tune writes; make one with --out or name another"
    )
