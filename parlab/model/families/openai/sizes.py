"""OpenAI's sizes of Whisper by their names."""

from __future__ import annotations

from parlab.errors import UserError, nearest

SIZES = {
    "tiny": (4, 384, 6),
    "base": (6, 512, 8),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
}  # blocks, width, heads
SIZES |= {f"{name}.en": size for name, size in SIZES.items()}
SIZES |= dict.fromkeys(("large", "large-v1", "large-v2"), (32, 1280, 20))
BANDS = 80  # of the log-mel features
MAX_FRAMES = 1500  # of the encoder, 30 s
MAX_TOKENS = 448  # of the decoder


def size_of(name: str, role: str) -> tuple[int, int, int]:
    """Blocks, width and heads of the encoder or of the decoder, whichever ``role`` says.

    Raises:
        UserError: there is no such size.
    """
    if name not in SIZES:
        raise UserError(
            f"{role}_conf names the whisper_model '{name}'{nearest(name, list(SIZES))}, expected one of {', '.join(SIZES)} (models of 128 "
            "bands do not fit ESPnet's 80); correct it"
        )
    return SIZES[name]
