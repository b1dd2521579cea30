"""The layouts of folders that foreign toolkits write, and the family that each is of."""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from parlab.errors import UserError
from parlab.model.families import whisper_folder
from parlab.model.families.blocks.model import BlockModel
from parlab.model.families.blocks.origin import Origin, Writing
from parlab.model.families.dolphin import folder as dolphin
from parlab.model.families.firered import folder as firered
from parlab.model.families.speechbrain import folder as speechbrain
from parlab.model.families.wenet import folder as wenet
from parlab.model.hybrid import HybridModel
from parlab.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Layout:
    """A family's folders.

    Attributes:
        family: its name, as users know it.
        looked_for: the files that tell it, for an error about an unknown folder.
        recognises: whether a folder is of this family, by its files alone.
        read: the model and its tokenizer, in evaluation mode, on the CPU.
        writing: how a trained model is written in this layout; None: it is not.
    """

    family: str
    looked_for: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], tuple[HybridModel, Tokenizer]]
    writing: Writing | None = None

    def open(self, path: Path) -> tuple[HybridModel, Tokenizer]:
        """Read a folder; its model remembers the folder."""
        model, tokenizer = self.read(path)
        if isinstance(model, BlockModel):
            model.came_from(path)
        return model, tokenizer


LAYOUTS: list[Layout] = [
    Layout("Whisper", "Whisper's config.json", whisper_folder.is_hugging_face, whisper_folder.read_folder),
    Layout(  # before WeNet's, which it looks like
        "Dolphin", dolphin.LOOKED_FOR, dolphin.recognises, dolphin.read_folder, Writing(dolphin.files, dolphin.fill)
    ),
    Layout("WeNet", wenet.LOOKED_FOR, wenet.recognises, wenet.read_folder, Writing(wenet.files, wenet.fill)),
    Layout(
        "SpeechBrain",
        speechbrain.LOOKED_FOR,
        speechbrain.recognises,
        speechbrain.read_folder,
        Writing(speechbrain.files, speechbrain.fill),
    ),
    Layout(
        "FireRed",
        firered.LOOKED_FOR,
        firered.recognises,
        firered.read_folder,
        Writing(firered.files, firered.fill, (Namespace,)),
    ),
]


def layout_of(path: Path) -> Layout | None:
    """The foreign layout of a folder; None where it is ESPnet's or unknown."""
    return next((layout for layout in LAYOUTS if layout.recognises(path)), None)


def origin_of(model: BlockModel) -> Origin:
    """The files of the folder that a model was read from, in memory.

    Raises:
        UserError: a file cannot be read, or models of its family are not written.
    """
    if isinstance(model.source, Path):
        return Origin.of(model.source, model.family, _writing(model.family), _on_cpu(model.state_dict()))
    if model.source is None:
        raise UserError(
            f"this {model.family} model was read from no folder, expected one to write it like; name a folder"
        )
    return model.source


def write_like_origin(model: BlockModel, folder: Path, half: bool) -> None:
    """Write a model in the layout of the folder that it was read from; ``half`` stores float16.

    Raises:
        UserError: as ``origin_of``.
    """
    state = _on_cpu(model.state_dict())
    if half:
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    origin_of(model).write(folder, state, _writing(model.family))


def read_origin(origin: Origin, state: Mapping[str, Tensor]) -> tuple[HybridModel, Tokenizer]:
    """The model of a folder that was kept in a checkpoint, with the weights ``state``.

    Raises:
        UserError: no such family is written, or files and weights do not fit together.
    """
    writing = _writing(origin.family)
    layout = next(layout for layout in LAYOUTS if layout.family == origin.family)
    with tempfile.TemporaryDirectory() as made:
        origin.write(Path(made), state, writing)
        model, tokenizer = layout.read(Path(made))
    assert isinstance(model, BlockModel)
    model.came_from(origin)
    return model, tokenizer


def _writing(family: str) -> Writing:
    writing = next((layout.writing for layout in LAYOUTS if layout.family == family), None)
    if writing is None:
        raise UserError(
            f"{family} models are not written here, expected one of {', '.join(x.family for x in LAYOUTS if x.writing)}; train it with its "
            "own toolkit"
        )
    return writing


def _on_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in state.items()}
