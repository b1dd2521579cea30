"""The layouts of folders that foreign toolkits write, and the family that each is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parlab.model.families import whisper_folder
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
    """

    family: str
    looked_for: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], tuple[HybridModel, Tokenizer]]


LAYOUTS: list[Layout] = [
    Layout("Whisper", "Whisper's config.json", whisper_folder.is_hugging_face, whisper_folder.read_folder),
    Layout(
        "Dolphin", dolphin.LOOKED_FOR, dolphin.recognises, dolphin.read_folder
    ),  # before WeNet's, which it looks like
    Layout("WeNet", wenet.LOOKED_FOR, wenet.recognises, wenet.read_folder),
    Layout("SpeechBrain", speechbrain.LOOKED_FOR, speechbrain.recognises, speechbrain.read_folder),
    Layout("FireRed", firered.LOOKED_FOR, firered.recognises, firered.read_folder),
]


def layout_of(path: Path) -> Layout | None:
    """The foreign layout of a folder; None where it is ESPnet's or unknown."""
    return next((layout for layout in LAYOUTS if layout.recognises(path)), None)
