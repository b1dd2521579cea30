"""Whisper as a model of ours: its front end, transformers' encoder, the decoder in rows, and no CTC head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.decoder_spec import DecoderSpec
from parlab.model.families import whisper
from parlab.model.hybrid import HybridModel
from parlab.model.losses import Losses
from parlab.text.s2t import S2TSymbols
from parlab.text.targets import Targets
from parlab.types import SpecialTokens


@dataclass(frozen=True)
class WhisperFeatures:
    """Whisper's ``preprocessor_config.json``, by its names and with its defaults."""

    feature_size: int = 80
    sampling_rate: int = 16000
    hop_length: int = 160
    chunk_length: int = 30
    n_fft: int = 400


class WhisperFrontend(nn.Module):
    """Log-mel features of a window, each utterance scaled by its own loudest value.

    transformers' ``WhisperFeatureExtractor`` without its padding, which ``HybridModel.to_window`` does.
    """

    def __init__(self, options: WhisperFeatures):
        super().__init__()
        self.sample_rate, self.n_fft, self.hop_length = options.sampling_rate, options.n_fft, options.hop_length
        self.register_buffer(
            "filters",
            whisper.mel_filters(options.feature_size, options.n_fft, options.sampling_rate),
            persistent=False,
        )

    filters: Tensor

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples) and ``lengths`` (B,) to features (B, frames, n_mels) and frame counts (B,)."""
        with torch.autocast(speech.device.type, enabled=False):
            window = torch.hann_window(self.n_fft, device=speech.device)
            spectrum = torch.stft(speech.float(), self.n_fft, self.hop_length, window=window, return_complex=True)
            power = spectrum[..., :-1].abs().square().contiguous()
            x = (self.filters.T @ power).clamp(min=1e-10).log10()
            x = torch.maximum(x, x.amax((1, 2), keepdim=True) - 8.0)
            return ((x + 4.0) / 4.0).transpose(1, 2), lengths // self.hop_length


class WhisperModel(HybridModel):
    """Whisper with its modules under transformers' names, without the ``model.`` before them."""

    family = "Whisper"

    def __init__(
        self,
        config: Mapping[str, Any],
        special: SpecialTokens,
        parts: Mapping[str, nn.Module | None],
        s2t: S2TSymbols,
    ):
        super().__init__(config, special, parts, "whisper", s2t)

    @cached_property
    def frame_seconds(self) -> float:
        """Seconds from one encoder frame to the next."""
        return float(self.s2t.window_seconds or 0.0) / int(self.encoder.max_source_positions) if self.s2t else 0.0

    def decoder_spec(self) -> DecoderSpec:
        assert self.decoder is not None
        return whisper.decoder_spec(self.decoder)

    def encode_features(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Features (B, frames, n_mels) of whole windows to states (B, T, D); all T frames count, silence among them."""
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(next(self.encoder.parameters()).dtype)
        states = self.encoder(x.transpose(1, 2), return_dict=True).last_hidden_state
        return states, torch.full_like(frames, states.size(1)), []

    def loss(self, speech: Tensor, lengths: Tensor, targets: Targets) -> Losses:
        """This model cannot be trained here.

        Raises:
            UserError: always.
        """
        raise UserError(NO_TRAINING)


NO_TRAINING = (
    "a Whisper model can be decoded but not trained here, expected an ESPnet-format model; train a hybrid from its encoder and "
    "decoder with model.network's encoder: whisper and decoder: whisper, or fine-tune it with transformers, whose folder `--model` reads"
)
