"""From a Whisper model to ESPnet's modules: the weights of encoder and decoder, and embeddings of another vocabulary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.families.openai.decoder import WhisperDecoder
from parlab.model.families.openai.encoder import WhisperEncoder
from parlab.model.hybrid import HybridModel
from parlab.text.byte_bpe import ByteBPE
from parlab.text.tokenizer import SPACE, is_symbol

_OPENAI_NAMES = {
    "embed_positions.weight": "positional_embedding",
    "layers.": "blocks.",
    ".self_attn_layer_norm.": ".attn_ln.",
    ".encoder_attn_layer_norm.": ".cross_attn_ln.",
    ".final_layer_norm.": ".mlp_ln.",
    ".self_attn.": ".attn.",
    ".encoder_attn.": ".cross_attn.",
    ".q_proj.": ".query.",
    ".k_proj.": ".key.",
    ".v_proj.": ".value.",
    ".out_proj.": ".out.",
    ".fc1.": ".mlp.0.",
    ".fc2.": ".mlp.2.",
}


def take_over_whisper(model: HybridModel, source: HybridModel, vocabulary: ByteBPE) -> None:
    """Copy a Whisper model's encoder into ESPnet's ``encoder: whisper``, and its decoder where there is a ``decoder: whisper``.

    Raises:
        UserError: one of them has another size.
    """
    take_over_encoder(model.encoder, source.encoder)
    if model.ctc is not None:
        begin_with_blanks(model.ctc.ctc_lo, model.special.blank)
    if isinstance(model.decoder, WhisperDecoder) and source.decoder is not None:
        take_over_decoder(model.decoder, source.decoder, model.token_list, vocabulary)


def take_over_encoder(encoder: WhisperEncoder, source: nn.Module) -> None:
    """Copy the weights of transformers' ``WhisperEncoder``.

    Raises:
        UserError: it has another size.
    """
    _load(encoder.encoders, openai_names(source.state_dict(), "ln_post."), "encoder")


@torch.no_grad()
def begin_with_blanks(output: nn.Linear, blank: int) -> None:
    """Let a new CTC head say blank nine times in ten, whatever it sees.

    A random head costs forty times what one of blanks does. The way down leads through the encoder, whose frames become all alike before
    the head has learnt a thing, and the decoder's accuracy goes from 0.35 to 0.02 in 60 steps (tiny.en).
    """
    output.weight.zero_()
    output.bias.zero_()
    output.bias[blank] = math.log(9.0 * (len(output.bias) - 1))


@torch.no_grad()
def take_over_decoder(decoder: WhisperDecoder, source: nn.Module, tokens: Sequence[str], vocabulary: ByteBPE) -> None:
    """Copy the weights of transformers' ``WhisperDecoder``; a token's embedding is the mean of those that spell it there.

    Args:
        tokens: (V) of ``decoder``, as a sentencepiece model writes them.
        vocabulary: of ``source``.

    Raises:
        UserError: it has another size.
    """
    state = openai_names(source.state_dict(), "ln.")
    known = state.pop("embed_tokens.weight")
    state.pop("proj_out.weight", None)
    if known.size(1) == decoder.decoders.token_embedding.embedding_dim:  # else its size is refused below
        state["token_embedding.weight"] = embeddings_of(tokens, known, vocabulary)
    _load(decoder.decoders, state, "decoder")


def embeddings_of(tokens: Sequence[str], known: Tensor, vocabulary: ByteBPE) -> Tensor:
    """Embeddings (V, D) of ``tokens``: the mean of the ``known`` (W, D) ones that spell them.

    Where all tokens are of upper case, they are spelled in lower case, as Whisper writes. Start and end of a text are Whisper's; other symbols
    are the mean of all.
    """
    ends = known[[vocabulary.index["<|startoftranscript|>"], vocabulary.index["<|endoftext|>"]]].mean(0)
    one_case = not any(token != token.upper() for token in tokens if not is_symbol(token))
    rows = []
    for token in tokens:
        if is_symbol(token) and token != SPACE:
            rows.append(ends if token in {"<sos/eos>", "<sos>", "<eos>"} else known.mean(0))
            continue
        text = " " if token == SPACE else token.replace("\u2581", " ")
        ids = vocabulary.ids_of(text.lower() if one_case else text)
        rows.append(known[ids].mean(0))
    return torch.stack(rows)


def openai_names(state: Mapping[str, Tensor], final_norm: str) -> dict[str, Tensor]:
    """Parameters of transformers' encoder or decoder under OpenAI's names; ``final_norm`` is that of the last norm."""
    renamed = {}
    for name, value in state.items():
        new = f"{final_norm}{name.removeprefix('layer_norm.')}" if name.startswith("layer_norm.") else name
        for theirs, ours in _OPENAI_NAMES.items():
            if new.startswith(theirs) or (theirs.startswith(".") and theirs in new):
                new = new.replace(theirs, ours, 1)
        renamed[new] = value
    return renamed


def _load(module: nn.Module, state: Mapping[str, Tensor], role: str) -> None:
    own = module.state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
        raise UserError(
            f"the Whisper model of model.init has another size than {role}_conf's whisper_model, expected the same; correct one"
        )
    module.load_state_dict(dict(state))
