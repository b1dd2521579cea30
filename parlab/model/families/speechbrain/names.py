"""SpeechBrain's names of weights as ours, and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NAMES = [
    (r"CNN\.convblock_(\d+)\.convs\.conv_0\.conv\.", r"encoder.embed.blocks.\1.conv."),
    (r"CNN\.convblock_(\d+)\.convs\.norm_0\.norm\.", r"encoder.embed.blocks.\1.norm."),
    (r"ctc_lin\.w\.", "ctc.ctc_lo."),
    (r"seq_lin\.w\.", "decoder.output_layer."),
    (r"Transformer\.custom_src_module\.layers\.0\.w\.", "encoder.embed.out."),
    (r"Transformer\.custom_tgt_module\.layers\.0\.emb\.Embedding\.", "decoder.embed."),
    (r"Transformer\.(encoder|decoder)\.norm\.norm\.", r"\1.after_norm."),
    (r"Transformer\.(encoder|decoder)\.layers\.", r"\1.\1s."),
    (r"\.mha_layer\.(?:att\.)?", ".self_attn."),
    (r"\.self_att\.att\.", ".self_attn."),
    (r"\.self_attn\.att\.", ".self_attn."),
    (r"\.multihead_attn\.att\.", ".src_attn."),
    (r"\.out_proj\.", ".linear_out."),
    (r"\.convolution_module\.layer_norm\.", ".norm_conv."),
    (r"\.convolution_module\.bottleneck\.0\.", ".conv_module.pointwise_conv1."),
    (r"\.convolution_module\.conv\.", ".conv_module.depthwise_conv."),
    (r"\.convolution_module\.after_conv\.0\.", ".conv_module.norm."),
    (r"\.convolution_module\.after_conv\.2\.", ".conv_module.pointwise_conv2."),
    (r"\.ffn_module1\.0\.", ".norm_ff_macaron."),
    (r"\.ffn_module2\.0\.", ".norm_ff."),
    (r"\.ffn_module1\.1\.ffn\.", ".feed_forward_macaron.ffn."),
    (r"\.ffn_module2\.1\.ffn\.", ".feed_forward.ffn."),
    (r"\.pos_ffn\.ffn\.", ".feed_forward.ffn."),
    (r"\.ffn\.0\.", ".w_1."),
    (r"\.ffn\.3\.", ".w_2."),
    (r"\.(norm\d)\.norm\.", r".\1."),
]
# Of a conformer, whose first norm stands before its attention and its second at its end.
_CONFORMERS = [
    (r"^(encoder\.encoders\.\d+)\.norm1\.", r"\1.norm_mha."),
    (r"^(encoder\.encoders\.\d+)\.norm2\.", r"\1.norm_final."),
]


@dataclass(frozen=True)
class Names:
    """The names of one model.

    Attributes:
        parts: what the number before each name stands for.
        heads: of the relative attention, whose projections are stored head by head.
    """

    parts: Sequence[str]
    heads: int

    def renamed(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """SpeechBrain's state dict as ours; tables of positions are left out."""
        found: dict[str, Tensor] = {}
        for theirs, value in state.items():
            name = self._ours(theirs, state)
            if name is None:
                continue
            if ".in_proj_" in name:
                if self._by_heads(theirs):
                    value = value.unflatten(0, (self.heads, 3, -1)).transpose(0, 1).flatten(0, 2)
                found |= dict(zip(_projections(name), value.chunk(3), strict=True))
            elif name.endswith("pointwise_conv2.weight"):
                found[name] = value.unsqueeze(-1)
            else:
                found[name] = value.reshape(self.heads, -1) if "pos_bias" in name else value
        return found

    def filled(self, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """SpeechBrain's state dict with the weights of our model ``own``: what ``renamed`` reads, the other way."""
        found = dict(state)
        for theirs, value in state.items():
            name = self._ours(theirs, state)
            if name is None:
                continue
            if ".in_proj_" in name:
                whole = torch.cat([own[part] for part in _projections(name)])
                if self._by_heads(theirs):
                    whole = whole.unflatten(0, (3, self.heads, -1)).transpose(0, 1).flatten(0, 2)
                found[theirs] = whole
            else:
                found[theirs] = own[name].reshape(value.shape)
        return found

    def _ours(self, name: str, state: Mapping[str, Tensor]) -> str | None:
        """Our name of a weight, that of a packed projection with its ending; None for a table."""
        number, _, rest = name.partition(".")
        name = f"{self.parts[int(number)]}.{rest}" if number.isdigit() and int(number) < len(self.parts) else name
        if name.startswith("Transformer.positional_encoding"):
            return None
        conformer = any(".convolution_module." in each for each in state)
        for pattern, ours in [*_NAMES, *(_CONFORMERS if conformer else [])]:
            name = re.sub(pattern, ours, name)
        return name

    @staticmethod
    def _by_heads(name: str) -> bool:
        return ".mha_layer." in name and ".att." not in name and name.endswith("in_proj_weight")


def _projections(name: str) -> list[str]:
    """The names of query, key and value in a packed projection."""
    base, kind = name.rsplit(".in_proj_", 1)
    return [f"{base}.linear_{x}.{kind}" for x in "qkv"]
