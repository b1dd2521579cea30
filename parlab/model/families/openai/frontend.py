"""Whisper's features of speech of any length, as ESPnet's ``encoder: whisper`` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.families import espnet
from parlab.model.families.openai.sizes import BANDS
from parlab.model.features import padding_mask, reflect, zero_padding

RATE, HOP = 16000, 160  # samples a second, and from one frame to the next
_N_FFT = 400


def check_config(config: Mapping[str, Any]) -> None:
    """Refuse parts that ESPnet would apply to the waveform, because this encoder makes its features itself there.

    Raises:
        UserError: there is one.
    """
    for name in ("frontend", "specaug", "normalize"):
        if config.get(name) is not None:
            raise UserError(
                f"the config has encoder: whisper with {name}: {config[name]}, expected {name}: null, because this encoder makes its own "
                "features (SpecAugment stands in encoder_conf as use_specaug and specaug_conf); correct it"
            )


class WhisperLogMel(nn.Module):
    """Whisper's log-mel features of speech without padding, each utterance scaled by its own loudest value.

    Reflects at each utterance's own end, as the utterance alone would be. No entry in the state dict, as in ESPnet.
    """

    batch_invariant: ClassVar[bool] = True
    sample_rate, hop_length, n_fft = RATE, HOP, _N_FFT

    def __init__(self) -> None:
        super().__init__()
        melmat: Any = espnet.log_mel(fs=RATE, n_fft=_N_FFT, n_mels=BANDS, fmin=None, fmax=None, htk=False).melmat
        self.register_buffer("filters", melmat.clone(), persistent=False)

    filters: Tensor

    def output_size(self) -> int:
        return BANDS

    def frames(self, samples: Any) -> Any:
        """Features of that many samples (a tensor or an integer)."""
        return samples // HOP

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples) and ``lengths`` (B,) to features (B, frames, 80) and frame counts (B,); padding becomes 0."""
        with torch.autocast(speech.device.type, enabled=False):
            window = torch.hann_window(_N_FFT, device=speech.device)
            speech = reflect(speech.float(), lengths, _N_FFT // 2)
            spectrum = torch.stft(speech, _N_FFT, HOP, window=window, center=False, return_complex=True)[..., :-1]
            x = (spectrum.abs().square().transpose(1, 2) @ self.filters).clamp(min=1e-10).log10()
            frames = self.frames(lengths)
            padding = padding_mask(frames, x.size(1)).unsqueeze(2)
            loudest = x.masked_fill(padding, -10.0).amax((1, 2), keepdim=True)
            return zero_padding((torch.maximum(x, loudest - 8.0) + 4.0) / 4.0, frames), frames
