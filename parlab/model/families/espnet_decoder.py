"""ESPnet's decoders as a ``DecoderSpec``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.decoder_spec import AttentionSpec, DecoderSpec, LayerSpec
from parlab.model.families.openai.decoder import WhisperDecoder

_GROWING = Lock()  # held while a position table grows


def decoder_spec(decoder: nn.Module) -> DecoderSpec:
    """The specification of ESPnet's ``decoder: transformer`` or ``whisper`` on its own weights.

    Raises:
        UserError: the decoder is neither, or its tokens are not embedded.
    """
    d: Any = decoder
    if isinstance(decoder, WhisperDecoder):
        return decoder.spec()
    if type(decoder).__name__ != "TransformerDecoder" or not isinstance(d.embed[0], nn.Embedding):
        raise UserError(
            f"the decoder is a {type(decoder).__name__}, expected a TransformerDecoder with embedded tokens; "
            "only greedy and ctc_beam decode this model"
        )
    embedding, encoding = d.embed
    scaled = hasattr(encoding, "alpha")  # ScaledPositionalEncoding: positions have a learned factor, tokens none
    return DecoderSpec(
        layers=tuple(_layer(x) for x in d.decoders),
        embedding=embedding,
        positions=Sinusoids(encoding, embedding),
        token_scale=None if scaled else math.sqrt(embedding.embedding_dim),
        position_scale=encoding.alpha if scaled else None,
        pre_norm=bool(d.normalize_before),
        final_norm=d.after_norm if d.normalize_before else None,
        output_weight=d.output_layer.weight,
        output_bias=d.output_layer.bias,
    )


def _layer(x: Any) -> LayerSpec:
    return LayerSpec(
        self_norm=x.norm1,
        self_attention=_attention(x.self_attn, x.concat_linear1 if x.concat_after else None),
        cross_norm=x.norm2,
        cross_attention=_attention(x.src_attn, x.concat_linear2 if x.concat_after else None),
        feed_norm=x.norm3,
        wide=x.feed_forward.w_1,
        narrow=x.feed_forward.w_2,
        activation=x.feed_forward.activation,
    )


def _attention(x: Any, join: nn.Module | None) -> AttentionSpec:
    return AttentionSpec(x.h, x.linear_q, x.linear_k, x.linear_v, x.linear_out, x.q_norm, x.k_norm, join)


@dataclass(frozen=True)
class Sinusoids:
    """ESPnet's table of positions, which grows when it is asked for more."""

    encoding: Any
    embedding: nn.Embedding

    def __call__(self, size: int) -> Tensor:
        if self.encoding.pe is None or self.encoding.pe.size(1) < size:
            with _GROWING:  # ESPnet looks at the size again, so that no thread makes the table shorter
                self.encoding.extend_pe(self.embedding.weight.new_zeros(1, size))
        return self.encoding.pe[0]
