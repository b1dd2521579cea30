"""What stands before and after the blocks of an encoder: subsampling, the CTC head."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad


class Conv2dSubsampling(nn.Module):
    """Convolutions without padding over time and bands, each with a ReLU, and a linear layer.

    Args:
        bands: n_mels.
        width: D.
        channels: of the convolutions.
        layers: kernel and stride of each.
        lookahead: frames of zeros that are put after an utterance first (FireRed).
    """

    def __init__(self, bands: int, width: int, channels: int, layers: tuple[tuple[int, int], ...], lookahead: int = 0):
        super().__init__()
        self.lookahead = lookahead
        parts: list[nn.Module] = []
        for i, (kernel, stride) in enumerate(layers):
            parts += [nn.Conv2d(channels if i else 1, channels, kernel, stride), nn.ReLU()]
        self.conv = nn.Sequential(*parts)
        self.shapes = layers
        self.out = nn.Linear(channels * self._outputs(bands), width)

    def _outputs(self, size: Any) -> Any:
        for kernel, stride in self.shapes:
            size = (size - kernel) // stride + 1
        return size

    def subsampled_lengths(self, frames: Any) -> Any:
        """Encoder frames of ``frames`` features (a tensor or an integer)."""
        return self._outputs(frames + self.lookahead)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """(B, F, n_mels), 0 after the ``frames`` (B,), to (B, T, D)."""
        x = self.conv(pad(x, (0, 0, 0, self.lookahead)).unsqueeze(1))
        return self.out(x.transpose(1, 2).flatten(2))


class CTCHead(nn.Module):
    """A linear layer under ESPnet's name."""

    def __init__(self, width: int, vocabulary: int):
        super().__init__()
        self.ctc_lo = nn.Linear(width, vocabulary)
