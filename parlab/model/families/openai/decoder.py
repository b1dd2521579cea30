"""ESPnet's ``decoder: whisper``: OpenAI's decoder with a vocabulary of the model's own.

ESPnet's ``OpenAIWhisperDecoder`` takes its weights from the package ``openai-whisper`` and replaces the embedding where the vocabulary has
another size; here they come from the model's folder. ESPnet attends to the padding of a batch; here an utterance has the output that it has
alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.decoder_spec import DecoderSpec, LearnedPositions
from parlab.model.families.openai.blocks import Block
from parlab.model.families.openai.sizes import MAX_TOKENS, size_of
from parlab.model.features import padding_mask


class WhisperDecoder(nn.Module):
    """The decoder by ESPnet's options; ``decoders`` holds OpenAI's modules.

    Args:
        vocab_size: V.
        encoder_output_size: must be the width of the decoder.
        dropout_rate: after the embedding and between the blocks.
        whisper_model: OpenAI's name of the size, as ``tiny.en``.
        download_dir: for ESPnet alone.
        load_origin_token_embedding: ESPnet's embedding in two parts, Whisper's own and that of tokens added to it.

    Raises:
        UserError: there is no such size, it is not the encoder's, or ``load_origin_token_embedding`` is set.
    """

    # 6 parameters: ESPnet's options by their names, which ``decoder_conf`` gives.
    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        dropout_rate: float = 0.0,
        whisper_model: str = "small",
        download_dir: str | None = None,
        load_origin_token_embedding: bool = False,
    ):
        super().__init__()
        blocks, width, heads = size_of(whisper_model, "decoder")
        if width != encoder_output_size:
            raise UserError(
                f"decoder_conf names the whisper_model '{whisper_model}' of width {width}, expected that of the encoder, whose width is "
                f"{encoder_output_size}; correct one"
            )
        if load_origin_token_embedding:
            raise UserError(
                "decoder_conf sets load_origin_token_embedding, expected false: a hybrid has a vocabulary of its own; take it out"
            )
        self.decoders = OpenAIDecoder(vocab_size, blocks, width, heads)
        self.dropout = nn.Dropout(dropout_rate)

    def forward(self, states: Tensor, frames: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the next tokens.

        Args:
            states: (B, T, D) of the encoder, ``frames`` (B,) of each utterance.
            tokens: (B, L), padded at the right with any id, ``lengths`` (B,) of each row.

        Returns:
            Unnormalised float32 scores (B, L, V), and ``lengths``.

        Raises:
            UserError: there are more tokens than positions.
        """
        d = self.decoders
        if tokens.size(1) > len(d.positional_embedding):
            raise UserError(
                f"a text has {tokens.size(1)} tokens, expected at most {len(d.positional_embedding)} for a decoder of Whisper; cut the "
                "utterance, or take a tokenizer with a larger vocabulary"
            )
        x = self.dropout(d.token_embedding(tokens) + d.positional_embedding[: tokens.size(1)])
        seen = ~padding_mask(frames, states.size(1))[:, None, None, :]
        for i, block in enumerate(d.blocks):
            x = block.decode(x, states, seen)  # type: ignore[operator]
            if i + 1 < len(d.blocks):
                x = self.dropout(x)
        return (d.ln(x) @ d.token_embedding.weight.T).float(), lengths

    def spec(self) -> DecoderSpec:
        """What ``RowDecoder`` reads; the output is tied to the embedding."""
        d = self.decoders
        return DecoderSpec(
            layers=tuple(block.spec() for block in d.blocks),  # type: ignore[operator]
            embedding=d.token_embedding,
            positions=LearnedPositions(d.positional_embedding),
            token_scale=None,
            position_scale=None,
            pre_norm=True,
            final_norm=d.ln,
            output_weight=d.token_embedding.weight,
            max_positions=len(d.positional_embedding),
        )


class OpenAIDecoder(nn.Module):
    """The modules of OpenAI's ``TextDecoder`` under its names."""

    def __init__(self, vocab_size: int, blocks: int, width: int, heads: int):
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(MAX_TOKENS, width))
        for weight in (self.token_embedding.weight, self.positional_embedding):
            nn.init.normal_(weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(width, heads, cross=True) for _ in range(blocks))
        self.ln = nn.LayerNorm(width)
