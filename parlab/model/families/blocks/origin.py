"""The folder that a model of a foreign family was read from, kept so that a trained one is written in the same layout."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parlab.errors import UserError
from parlab.model.families.weights import read_pickle

Contents = Any  # of a file of weights: a state dict, or what a toolkit puts around it


@dataclass(frozen=True)
class Writing:
    """How a family writes its folders.

    Attributes:
        files: the files of a folder that make up its model, that of the weights last.
        fill: contents of a file of weights, a model's own state dict, and the folder with the other files, to the contents with these
            weights.
        allowed: classes in the file of weights beside torch's (``read_pickle``).
    """

    files: Callable[[Path], list[Path]]
    fill: Callable[[Contents, Mapping[str, Tensor], Path], Contents]
    allowed: tuple[type, ...] = ()


@dataclass(frozen=True)
class Origin:
    """A folder as it was read.

    Attributes:
        family: of its layout.
        files: names and contents of the files that a training leaves as they are.
        weights: name of the file of weights.
        form: that file with the model's numbers left out: their names and shapes, and what else it holds.
    """

    family: str
    files: Mapping[str, bytes]
    weights: str
    form: bytes

    @staticmethod
    def of(folder: Path, family: str, writing: Writing, state: Mapping[str, Tensor]) -> Origin:
        """Read a folder that its family's reader has taken.

        Args:
            state: the state dict of the model that the reader made.

        Raises:
            UserError: a file cannot be read.
        """
        *kept, weights = writing.files(folder)
        contents = read_pickle(weights, "weights", "copy the file again", writing.allowed)
        if isinstance(contents.get("model"), dict):  # a checkpoint of a training, whose optimiser is left behind
            contents = contents["model"]
        try:
            files = {path.name: path.read_bytes() for path in kept}
        except OSError as error:
            raise UserError(f"a file of {folder} cannot be read ({error.strerror}); copy the folder again") from error
        # A tensor of one number that is shown in a shape takes no room in a file.
        hollow = {name: value.new_zeros(()).expand(value.shape) for name, value in state.items()}
        out = io.BytesIO()
        torch.save(writing.fill(contents, hollow, folder), out)
        return Origin(family, files, weights.name, out.getvalue())

    def write(self, folder: Path, state: Mapping[str, Tensor], writing: Writing) -> None:
        """Write the folder with other weights.

        Args:
            state: the model's own state dict.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files.items():
            (folder / name).write_bytes(data)
        with torch.serialization.safe_globals(list(writing.allowed)):
            contents = torch.load(io.BytesIO(self.form), weights_only=True)
        torch.save(writing.fill(contents, state, folder), folder / self.weights)

    def entry(self) -> dict[str, Any]:
        """Plain types and tensors of bytes, for a checkpoint."""
        files = {name: _tensor(data) for name, data in self.files.items()}
        return {"family": self.family, "files": files, "weights": self.weights, "form": _tensor(self.form)}

    @staticmethod
    def from_entry(entry: Mapping[str, Any], source: Path) -> Origin:
        """What ``entry`` made.

        Raises:
            UserError: it is something else, or names a file outside of a folder.
        """
        files: Any = entry.get("files")
        weights, form = entry.get("weights"), entry.get("form")
        names = [*files, weights] if isinstance(files, dict) else [None]
        plain = all(isinstance(n, str) and n not in ("", ".", "..") and not set(n) & set("/\\\0") for n in names)
        tensors = [form, *files.values()] if isinstance(files, dict) else [None]
        if not plain or not all(isinstance(t, Tensor) and t.dtype == torch.uint8 and t.dim() == 1 for t in tensors):
            raise UserError(
                f"{source} names no plain files of a model's folder, expected a checkpoint that `fit` wrote; take files from people you trust"
            )
        data = {name: tensor.numpy().tobytes() for name, tensor in files.items()}
        return Origin(str(entry["family"]), data, str(weights), form.numpy().tobytes())  # type: ignore[union-attr]


def _tensor(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)


def filled(
    form: Mapping[str, Tensor], own: Mapping[str, Tensor], renamed: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> dict[str, Tensor]:
    """A toolkit's state dict with a model's weights.

    Args:
        form: its names and shapes.
        own: the model's state dict.
        renamed: the toolkit's names as the model's, whatever stands below them.
    """
    found = dict(form)
    for ours, theirs in renamed({name: name for name in form}).items():
        if ours in own:
            found[theirs] = own[ours].reshape(form[theirs].shape)
    return found
