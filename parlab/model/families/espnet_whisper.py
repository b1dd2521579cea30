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
from torch.nn.functional import gelu, scaled_dot_product_attention

from parlab.errors import UserError, nearest
from parlab.model.families import espnet
from parlab.model.features import padding_mask, reflect, zero_padding

SIZES = {
    "tiny": (4, 384, 6),
    "base": (6, 512, 8),
    "small": (12, 768, 12),
    "medium": (24, 1024, 16),
}  # blocks, width, heads
SIZES |= {f"{name}.en": size for name, size in SIZES.items()}
SIZES |= dict.fromkeys(("large", "large-v1", "large-v2"), (32, 1280, 20))
MAX_FRAMES = 1500  # of the encoder, 30 s
_N_FFT, _HOP, _RATE, _BANDS = 400, 160, 16000, 80


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
    sample_rate, hop_length, n_fft = _RATE, _HOP, _N_FFT

    def __init__(self) -> None:
        super().__init__()
        melmat: Any = espnet.log_mel(fs=_RATE, n_fft=_N_FFT, n_mels=_BANDS, fmin=None, fmax=None, htk=False).melmat
        self.register_buffer("filters", melmat.clone(), persistent=False)

    filters: Tensor

    def output_size(self) -> int:
        return _BANDS

    def frames(self, samples: Any) -> Any:
        """Features of that many samples (a tensor or an integer)."""
        return samples // _HOP

    def forward(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """``speech`` (B, samples) and ``lengths`` (B,) to features (B, frames, 80) and frame counts (B,); padding becomes 0."""
        with torch.autocast(speech.device.type, enabled=False):
            window = torch.hann_window(_N_FFT, device=speech.device)
            speech = reflect(speech.float(), lengths, _N_FFT // 2)
            spectrum = torch.stft(speech, _N_FFT, _HOP, window=window, center=False, return_complex=True)[..., :-1]
            x = (spectrum.abs().square().transpose(1, 2) @ self.filters).clamp(min=1e-10).log10()
            frames = self.frames(lengths)
            padding = padding_mask(frames, x.size(1)).unsqueeze(2)
            loudest = x.masked_fill(padding, -10.0).amax((1, 2), keepdim=True)
            return zero_padding((torch.maximum(x, loudest - 8.0) + 4.0) / 4.0, frames), frames


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
    longest_seconds: ClassVar[float] = MAX_FRAMES * 2 * _HOP / _RATE

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
        if whisper_model not in SIZES:
            raise UserError(
                f"encoder_conf names the whisper_model '{whisper_model}'{nearest(whisper_model, list(SIZES))}, expected one of "
                f"{', '.join(SIZES)} (models of 128 bands do not fit ESPnet's 80); correct it"
            )
        if do_pad_trim:
            raise UserError("encoder_conf sets do_pad_trim, expected false: speech keeps its length here; take it out")
        blocks, width, heads = SIZES[whisper_model]
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
                f"the audio is {x.size(1) * _HOP / _RATE:.1f} s long, expected at most {self.longest_seconds:.0f} s for an encoder of "
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
        self.conv1 = nn.Conv1d(_BANDS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(MAX_FRAMES, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(blocks))
        self.ln_post = nn.LayerNorm(width)

    positional_embedding: Tensor


class _Block(nn.Module):
    """Attention and a feed-forward layer, each with its norm before it."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.attn_ln = _Attention(width, heads), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(B, T, D) to the same; ``seen`` (B, 1, 1, T) are frames of the utterance."""
        x = x + self.attn(self.attn_ln(x), seen)
        return x + self.mlp(self.mlp_ln(x))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        return self.out(scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2))


def sinusoids(length: int, width: int) -> Tensor:
    """OpenAI's positions (length, width): sines, then cosines, of wavelengths from 2 pi to 20000 pi."""
    scale = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10000.0)) / (width // 2 - 1)))
    angle = torch.arange(length).unsqueeze(1) * scale
    return torch.cat([angle.sin(), angle.cos()], 1)


_OPENAI_NAMES = {
    "embed_positions.weight": "positional_embedding",
    "layer_norm.": "ln_post.",
    "layers.": "blocks.",
    ".self_attn_layer_norm.": ".attn_ln.",
    ".final_layer_norm.": ".mlp_ln.",
    ".self_attn.q_proj.": ".attn.query.",
    ".self_attn.k_proj.": ".attn.key.",
    ".self_attn.v_proj.": ".attn.value.",
    ".self_attn.out_proj.": ".attn.out.",
    ".fc1.": ".mlp.0.",
    ".fc2.": ".mlp.2.",
}


def take_over_encoder(encoder: WhisperEncoder, source: nn.Module) -> None:
    """Copy the weights of transformers' ``WhisperEncoder``.

    Raises:
        UserError: it has another size.
    """
    state = {openai_name(name): value for name, value in source.state_dict().items()}
    own = encoder.encoders.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
        raise UserError(
            "the Whisper model of model.init has another size than encoder_conf's whisper_model, expected the same; correct one"
        )
    encoder.encoders.load_state_dict(state)


def openai_name(name: str) -> str:
    """A parameter of transformers' encoder under OpenAI's name."""
    for theirs, ours in _OPENAI_NAMES.items():
        if name.startswith(theirs) or (theirs.startswith(".") and theirs in name):
            name = name.replace(theirs, ours, 1)
    return name
