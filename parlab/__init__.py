"""parlab: partially autoregressive decoding of hybrid CTC/attention speech recognition.

import parlab
asr = parlab.load("exp/model")
asr.transcribe(["a.wav", "b.flac"], decoder="par", threshold=0.99)[0].text
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parlab.api import ASR, load

__version__ = "0.1.0"
__all__ = ["ASR", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in {"ASR", "load"}:  # torch and ESPnet are imported when they are needed
        from parlab import api

        return getattr(api, name)
    raise AttributeError(f"module 'parlab' has no attribute '{name}'")
