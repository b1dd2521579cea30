"""The attention decoder as rows: shared caches per utterance, a short suffix per hypothesis (``caches``).

Memory, in elements, for M layers, width D, B utterances of T frames with P prefix tokens, N rows with S
suffix tokens: cross 2*M*B*T*D + prefix 2*M*B*P*D + suffix 2*M*N*S*D, plus N*(T + P + S)*H attention
scores and N*V logits of one step. Nothing of size N*T*D or N*P*D is made (a test counts the bytes).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from parlab.model.caches import CrossCache, PrefixCache, RowLayout, Suffix, SuffixCache
from parlab.model.decoder_spec import AttentionSpec, DecoderSpec
from parlab.model.packed import PackedLinear, PositionTable


class RowDecoder:
    """A transformer decoder, stepped in rows.

    The projections of queries, keys and values are fused; the object is a snapshot of the weights and
    belongs to one device and precision.
    """

    def __init__(self, spec: DecoderSpec):
        layers = spec.layers
        own, other = [x.self_attention for x in layers], [x.cross_attention for x in layers]
        self.spec = spec
        self.vocab_size = spec.vocab_size
        self.position_table = PositionTable(spec.positions, spec.embedding.weight)
        self.output = PackedLinear(spec.output_weight, spec.output_bias)
        self.self_qkv = [PackedLinear.of(x.query, x.key, x.value) for x in own]
        self.self_out = [PackedLinear.of(x.output) for x in own]
        self.cross_q = [PackedLinear.of(x.query) for x in other]
        self.cross_kv = [PackedLinear.of(x.key, x.value) for x in other]
        self.cross_out = [PackedLinear.of(x.output) for x in other]
        self.wide = [PackedLinear.of(x.wide) for x in layers]
        self.narrow = [PackedLinear.of(x.narrow) for x in layers]
        self.self_attention, self.cross_attention = own, other

    # ---- caches -------------------------------------------------------------------------------

    def cross_cache(self, encoder_out: Tensor, lengths: Tensor) -> CrossCache:
        """Project ``encoder_out`` (B, T, D) once per utterance."""
        keys, values = [], []
        for project, block in zip(self.cross_kv, self.cross_attention, strict=True):
            k, v = _halves(project(encoder_out), block.heads)
            keys.append(block.norm_key(k).contiguous())
            values.append(v.contiguous())
        size = encoder_out.size(1)
        mask = None
        # Without a mask attention is faster on CPU; on other devices the answer costs more than the mask.
        if lengths.device.type != "cpu" or bool((lengths < size).any()):
            mask = (torch.arange(size, device=lengths.device) < lengths.unsqueeze(1))[:, None, None, :]
        return CrossCache(keys, values, mask)

    def prefill(
        self, tokens: Tensor, cross: CrossCache, copies: int = 1, before: PrefixCache | None = None
    ) -> tuple[Tensor, PrefixCache]:
        """One teacher-forced pass over ``tokens`` (B, L), padded at the right with any id.

        Returns the hidden states (B, L, D), of which index l predicts token l + 1, and the prefix cache.
        A token never changes the states before it, so padding needs no mask.

        With ``copies`` K, ``tokens`` is (B * K, L): K sequences of each utterance, which share its cross cache. With ``before`` the
        tokens follow those of a cache of the same rows, which the returned cache holds too.
        """
        past = 0 if before is None else before.keys[0].size(2)
        position = torch.arange(past, past + tokens.size(1), device=tokens.device)
        x = self._embed(tokens, position, past + tokens.size(1))
        seen = (
            None
            if before is None
            else torch.arange(past + tokens.size(1), device=tokens.device) <= position.unsqueeze(1)
        )
        keys, values = [], []
        for i, block in enumerate(self.self_attention):

            def attend_self(y: Tensor, i: int = i, block: AttentionSpec = block) -> Tensor:
                q, k, v = _thirds(self.self_qkv[i](y), block.heads)
                k = block.norm_key(k)
                if before is not None:
                    k, v = torch.cat([before.keys[i], k], 2), torch.cat([before.values[i], v], 2)
                keys.append(k)
                values.append(v)
                q = block.norm_query(q)
                return _merge(scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=seen is None))

            def attend_cross(y: Tensor, i: int = i) -> Tensor:
                block = self.cross_attention[i]
                shared = y.reshape(len(y) // copies, -1, y.size(2))  # the queries of an utterance side by side
                q = block.norm_query(_split(self.cross_q[i](shared), block.heads).transpose(1, 2))
                out = scaled_dot_product_attention(q, cross.keys[i], cross.values[i], attn_mask=cross.mask)
                return _merge(out).view_as(y)

            x = self._layer(i, x, attend_self, attend_cross)
        return self._finish(x), PrefixCache(keys, values)

    # ---- one step -----------------------------------------------------------------------------

    def step(
        self,
        tokens: Tensor,
        layout: RowLayout,
        cross: CrossCache,
        prefix: PrefixCache,
        suffix: Suffix | None,
    ) -> tuple[Tensor, Suffix]:
        """Advance N rows by one token each.

        ``tokens`` (N,) are the rows' newest tokens; the suffix holds those before. Returns hidden states
        (N, D), which predict the next token, and the suffix grown by one.
        """
        own: Suffix = SuffixCache([], []) if suffix is None else suffix
        size = prefix.keys[0].size(2)
        unwritten = own.blind()
        positions = layout.prefix_length + own.length
        # In fixed shapes rows that were dropped may be past the last position.
        if unwritten is not None and self.spec.max_positions is not None:
            positions = positions.clamp(max=self.spec.max_positions - 1)
        x = self._embed(tokens, positions, size + own.size + 1)
        seen = torch.arange(size, device=tokens.device) < layout.prefix_length.unsqueeze(1)  # (N, P)
        asked = unwritten is None and tokens.device.type == "cpu"  # elsewhere the answer costs more than the bias
        bias = None if asked and bool(seen.all()) else _bias(seen, unwritten, own.size + 1, x.dtype)
        keys, values = [], []
        for i in range(len(self.spec.layers)):

            def attend_self(y: Tensor, i: int = i) -> Tensor:
                block = self.self_attention[i]
                q, k, v = self.self_qkv[i](y).view(len(y), 3, block.heads, -1).unbind(1)  # (N, H, d)
                q, k, v = block.norm_query(q), block.norm_key(k).unsqueeze(2), v.unsqueeze(2)
                k, v = own.append(i, k, v)
                keys.append(k)
                values.append(v)
                return _two_part_attention(q, (own, k, v), prefix.keys[i], prefix.values[i], bias, layout)

            def attend_cross(y: Tensor, i: int = i) -> Tensor:
                block = self.cross_attention[i]
                q = layout.to_grid(block.norm_query(_split(self.cross_q[i](y), block.heads)))
                out = scaled_dot_product_attention(q, cross.keys[i], cross.values[i], attn_mask=cross.mask)
                return layout.to_rows(out).flatten(1)

            x = self._layer(i, x, attend_self, attend_cross)
        return self._finish(x), own.grown(keys, values)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (..., D) to unnormalised float32 scores (..., V)."""
        return self.output(hidden).float()

    # ---- the layer, the same for a pass and for a step ------------------------------------------

    def _embed(self, tokens: Tensor, positions: Tensor, size: int) -> Tensor:
        """Embedded tokens at ``positions``, which lie below ``size``."""
        spec, x = self.spec, self.spec.embedding(tokens)
        table = self.position_table.of(size)[positions]
        x = x if spec.token_scale is None else x * spec.token_scale
        return x + (table if spec.position_scale is None else spec.position_scale * table)

    def _layer(self, i: int, x: Tensor, attend_self: Any, attend_cross: Any) -> Tensor:
        layer = self.spec.layers[i]
        own, other = layer.self_attention.join, layer.cross_attention.join
        x = self._residual(x, layer.self_norm, lambda y: _join(own, y, self.self_out[i](attend_self(y))))
        x = self._residual(x, layer.cross_norm, lambda y: _join(other, y, self.cross_out[i](attend_cross(y))))
        return self._residual(x, layer.feed_norm, lambda y: self._feed_forward(i, y))

    def _feed_forward(self, i: int, x: Tensor) -> Tensor:
        """The position-wise layer without its dropout."""
        activation = self.spec.layers[i].activation
        if isinstance(activation, nn.ReLU):
            return self.narrow[i](self.wide[i](x, relu=True))
        return self.narrow[i](activation(self.wide[i](x)))

    def _residual(self, x: Tensor, norm: nn.LayerNorm, block: Any) -> Tensor:
        if self.spec.pre_norm:
            return x + block(_norm(norm, x))
        return _norm(norm, x + block(x))

    def _finish(self, x: Tensor) -> Tensor:
        return _norm(self.spec.final_norm, x) if self.spec.final_norm is not None else x


def _norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    return layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def _join(join: nn.Module | None, y: Tensor, attended: Tensor) -> Tensor:
    return attended if join is None else join(torch.cat([y, attended], dim=-1))


def _split(x: Tensor, heads: int) -> Tensor:
    """(..., D) to (..., H, d)."""
    return x.unflatten(-1, (heads, -1))


def _thirds(x: Tensor, heads: int) -> tuple[Tensor, ...]:
    """(B, L, 3 D) to three (B, H, L, d)."""
    return x.view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _halves(x: Tensor, heads: int) -> tuple[Tensor, ...]:
    """(B, T, 2 D) to two (B, H, T, d)."""
    return x.view(*x.shape[:2], 2, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)


def _merge(x: Tensor) -> Tensor:
    """(B, H, L, d) to (B, L, D)."""
    return x.transpose(1, 2).flatten(2)


Own = tuple[Suffix, Tensor, Tensor]


def _bias(seen: Tensor, blind: Tensor | None, size: int, dtype: torch.dtype) -> Tensor:
    """What rows may look at, (N, 1, P + S): 0, or minus infinity.

    Args:
        seen: (N, P) true where a row sees the prefix.
        blind: (S,) or (N, 1, S) true where it does not see the suffix; None: it sees all ``size`` S tokens.
    """
    rows = len(seen)
    own = seen.new_zeros(rows, size) if blind is None else blind.reshape(-1, blind.size(-1)).expand(rows, -1)
    hidden = torch.cat([~seen, own], 1).unsqueeze(1)
    return torch.zeros(hidden.shape, dtype=dtype, device=seen.device).masked_fill_(hidden, float("-inf"))


# 6 parameters: queries, keys and values of both parts of the softmax, as the formula has them.
def _two_part_attention(
    q: Tensor, own: Own, prefix_k: Tensor, prefix_v: Tensor, bias: Tensor | None, layout: RowLayout
) -> Tensor:
    """Attention of rows over the shared prefix and their own suffix, under one softmax.

    ``q`` (N, H, d), ``own`` the suffix with the keys and values that it grew to, prefix (B, H, P, d), ``bias`` (N, 1, P + S) what is
    added to the scores; to (N, D).
    """
    suffix, k, v = own
    q = q / math.sqrt(q.size(-1))
    shared = layout.to_rows(layout.to_grid(q) @ prefix_k.transpose(2, 3))  # (N, H, P)
    single = suffix.scores(q, k)  # (N, H, S)
    scores = torch.cat([shared, single], dim=2)
    weights = torch.softmax(scores if bias is None else scores + bias, dim=2)
    on_prefix, on_own = weights.split([shared.size(2), single.size(2)], dim=2)
    out = layout.to_rows(layout.to_grid(on_prefix) @ prefix_v)
    return (out + suffix.mixed(on_own, v)).flatten(1)
