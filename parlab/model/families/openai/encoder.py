"""ESPnet's ``encoder: whisper``: OpenAI's encoder under its own names, on speech of any length up to its window.

ESPnet's ``OpenAIWhisperEncoder`` takes waveforms and needs the package ``openai-whisper``, which fetches weights. Here the front end is a part
of its own and the weights come from the model's folder; the state dict has ESPnet's keys, so that both read each other's folders.
ESPnet attends to the padding of a batch; here an utterance has the output that it has alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from parlab.errors import UserError
from parlab.model.families import espnet
from parlab.model.families.openai.blocks import Block
from parlab.model.families.openai.frontend import HOP, RATE
from parlab.model.families.openai.sizes import BANDS, MAX_FRAMES, size_of
from parlab.model.features import padding_mask


class WhisperEncoder(nn.Module):
    """The encoder by ESPnet's options; ``encoders`` holds OpenAI's modules.

    Args:
        input_size: of the front end, as ESPnet's builder passes it; not used.
        whisper_model: OpenAI's name of the size, as ``tiny.en``.
        download_dir: for ESPnet alone.
        use_specaug, specaug_conf: SpecAugment on the features while training.
        do_pad_trim: ESPnet's padding to 30 s.

    Raises:
        UserError: there is no such size, or ``do_pad_trim`` is set.
    """

    batch_invariant: ClassVar[bool] = True
    longest_seconds: ClassVar[float] = MAX_FRAMES * 2 * HOP / RATE

    # 7 parameters: ESPnet's options by their names, which ``encoder_conf`` gives.
    def __init__(
        self,
        input_size: int = 1,
        dropout_rate: float = 0.0,
        whisper_model: str = "small",
        download_dir: str | None = None,
        use_specaug: bool = False,
        specaug_conf: Mapping[str, Any] | None = None,
        do_pad_trim: bool = False,
    ):
        super().__init__()
        blocks, width, heads = size_of(whisper_model, "encoder")
        if do_pad_trim:
            raise UserError("encoder_conf sets do_pad_trim, expected false: speech keeps its length here; take it out")
        self.encoders = _OpenAIEncoder(blocks, width, heads)
        self.dropout = nn.Dropout(dropout_rate)
        self.specaug = espnet.specaug(**(specaug_conf or {})) if use_specaug else None

    def output_size(self) -> int:
        return int(self.encoders.positional_embedding.size(1))

    def subsampled_lengths(self, frames: Any) -> Any:
        """Encoder frames of ``frames`` features (a tensor or an integer)."""
        return (frames - 1) // 2 + 1

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, None]:
        """Features (B, frames, 80) of ``frames`` (B,) to states (B, T, D) and their frames (B,).

        Raises:
            UserError: they are longer than the window of the positions.
        """
        if self.subsampled_lengths(x.size(1)) > MAX_FRAMES:
            raise UserError(
                f"the audio is {x.size(1) * HOP / RATE:.1f} s long, expected at most {self.longest_seconds:.0f} s for an encoder of "
                "Whisper; cut it, or decode it as long audio"
            )
        if self.specaug is not None and self.training:
            x, _ = self.specaug(x, frames)
        x = gelu(self.encoders.conv1(x.transpose(1, 2)))
        x = x.masked_fill(padding_mask(frames, x.size(2)).unsqueeze(1), 0.0)  # what the next convolution sees alone
        x = gelu(self.encoders.conv2(x)).transpose(1, 2)
        frames = self.subsampled_lengths(frames)
        x = self.dropout(x + self.encoders.positional_embedding[: x.size(1)].to(x.dtype))
        seen = ~padding_mask(frames, x.size(1))[:, None, None, :]
        for i, block in enumerate(self.encoders.blocks):
            x = block(x, seen)
            if i + 1 < len(self.encoders.blocks):
                x = self.dropout(x)
        return self.encoders.ln_post(x), frames, None


class _OpenAIEncoder(nn.Module):
    """The modules of OpenAI's ``AudioEncoder`` under its names."""

    def __init__(self, blocks: int, width: int, heads: int):
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(MAX_FRAMES, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.ln_post = nn.LayerNorm(width)

    positional_embedding: Tensor


def sinusoids(length: int, width: int) -> Tensor:
    """OpenAI's positions (length, width): sines, then cosines, of wavelengths from 2 pi to 20000 pi."""
    scale = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10000.0)) / (width // 2 - 1)))
    angle = torch.arange(length).unsqueeze(1) * scale
    return torch.cat([angle.sin(), angle.cos()], 1)
