"""Speech from text with eSpeak NG, in process: no program is started and no system package is needed.

The wheel ``espeakng-loader`` brings the library and its data; it is called through ctypes. The library has one
global state, so one lock guards it: threads may call :func:`speak`, one at a time.
"""

from __future__ import annotations

import _ctypes
import ctypes
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from parlab.errors import UserError, nearest

ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
# Variants of eSpeak NG that sound like a person; the robots, whispers and jokes are left out, and those whose noise
# is drawn anew each time (Reed, caleb).
VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 klatt klatt2 klatt3 klatt4 Alex Alicia Andrea Andy Annie Denis Diogo Gene "
    "Gene2 Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen Storm adam anika antonio aunty belinda "
    "benjamin boris david ed edward edward2 grandma grandpa gustave ian iven iven2 iven3 iven4 john linda "
    "marcelo max michel miguel mike2 norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3 "
    "travis victor zac"
).split()

_LOCK = threading.Lock()
_SYNCHRONOUS, _NO_EXIT, _UTF8, _PHONEMES, _END_PAUSE = 2, 0x8000, 0x1, 0x100, 0x1000
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True)
class Voice:
    """A voice of eSpeak NG: an accent of :data:`ACCENTS`, a variant of :data:`VARIANTS` (or none), and eSpeak's own scales.

    ``rate`` is in words a minute (80 to 450), ``pitch`` and ``pitch_range`` from 0 to 99, ``word_gap`` in units of
    10 ms at the normal rate.
    """

    accent: str = "en-us"
    variant: str = ""
    rate: int = 165
    pitch: int = 50
    pitch_range: int = 50
    word_gap: int = 0

    @property
    def name(self) -> str:
        return f"{self.accent}+{self.variant}" if self.variant else self.accent


class _Engine:
    """The library, loaded anew for one text.

    Its flutter, echo and breath noise go on where the last text ended, so that a sentence would sound different
    after another one. Loading it again takes half a millisecond and makes every text the same each time.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader

            self.library = ctypes.CDLL(espeakng_loader.get_library_path())
            data = str(espeakng_loader.get_data_path())
        except (ImportError, OSError, RuntimeError) as error:
            raise UserError(
                f"eSpeak NG cannot be loaded ({error}), expected the package espeakng-loader; pip install espeakng-loader"
            ) from error
        self.variants = Path(data) / "voices" / "!v"
        self.library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
        pointer, size, unsigned = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
        self.library.espeak_Synth.argtypes = [
            *(ctypes.c_char_p, size, unsigned, ctypes.c_int, unsigned, unsigned, pointer, pointer)
        ]
        self.rate = int(self.library.espeak_Initialize(_SYNCHRONOUS, 0, data.encode(), _NO_EXIT))
        if self.rate <= 0:
            raise UserError(f"eSpeak NG did not start with its data in {data}; install espeakng-loader again")
        self.pieces: list[np.ndarray] = []
        self.callback = _CALLBACK(self._collect)  # kept: ctypes does not hold a reference
        self.library.espeak_SetSynthCallback(self.callback)
        if hasattr(self.library, "espeak_ng_SetRandSeed"):
            self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.library.espeak_Terminate()
        unload = getattr(_ctypes, "dlclose", None) or getattr(_ctypes, "FreeLibrary", None)
        if unload is not None:
            unload(self.library._handle)

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self.pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def speak(self, text: str, voice: Voice) -> np.ndarray:
        if self.library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise UserError(
                f"eSpeak NG has no voice '{voice.name}'{nearest(voice.accent, ACCENTS)}; name one of its accents"
            )
        if voice.variant and not (self.variants / voice.variant).is_file():  # eSpeak itself would pass over it
            raise UserError(
                f"eSpeak NG has no variant '{voice.variant}'{nearest(voice.variant, VARIANTS)}; name one of its variants"
            )
        for parameter, value in (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.pitch_range),
            (_WORD_GAP, voice.word_gap),
        ):
            self.library.espeak_SetParameter(parameter, int(value), 0)
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8 | _PHONEMES | _END_PAUSE, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, dtype=np.int16)


def speak(text: str, voice: Voice = Voice(), sample_rate: int = 16000) -> np.ndarray:
    """Speak a text; ``[[...]]`` holds eSpeak phonemes.

    Returns:
        float32 (samples,) in [-1, 1], mono, at ``sample_rate`` Hz; the same for the same arguments.

    Raises:
        UserError: the library is not installed, the voice is unknown, or the text has nothing to say.
    """
    with _LOCK, _Engine() as engine:
        samples = engine.speak(text, voice)
    if not samples.any():
        raise UserError(f"eSpeak NG said nothing for the text {text!r}, expected words; give another text")
    wave = samples.astype(np.float32) / 32768.0
    if sample_rate != engine.rate:
        import soxr

        wave = np.asarray(soxr.resample(wave, engine.rate, sample_rate), dtype=np.float32)
    return np.clip(wave, -1.0, 1.0)
