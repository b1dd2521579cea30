"""ESPnet language models (Transformer, RNN) from their folders, stepped in rows."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.families import espnet
from parlab.model.families.espnet_build import read_token_list
from parlab.model.families.espnet_folder import find_files, read_config
from parlab.model.families.weights import read_weights


class LanguageModel(nn.Module):
    """An ESPnet language model; ``lm`` holds ESPnet's module, so that state dicts match key for key."""

    def __init__(self, lm: nn.Module, token_list: list[str]):
        super().__init__()
        self.lm: Any = lm
        self.token_list = token_list
        self.recurrent = hasattr(lm, "rnn")
        self.one_thread = Lock()  # ESPnet's attention keeps its weights on the module while it runs

    def scores(self, tokens: Tensor) -> Tensor:
        """Logits (N, L, V), float32, after every token of rows (N, L)."""
        with self.one_thread:
            return self.lm(tokens, None)[0].float()

    def read(self, tokens: Tensor, lengths: Tensor, on_host: Tensor | None = None) -> tuple[Tensor, Any]:
        """Logits (N, V), float32, after the last token of each row of ``tokens`` (N, L), and a recurrent state or None.

        Args:
            on_host: the same lengths on the host, where they are known there: a recurrent model needs them.
        """
        rows = torch.arange(len(tokens), device=tokens.device)
        if not self.recurrent:
            return self.scores(tokens)[rows, lengths - 1], None
        sizes = lengths.cpu() if on_host is None else on_host
        packed = nn.utils.rnn.pack_padded_sequence(
            self.lm.encoder(tokens), sizes, batch_first=True, enforce_sorted=False
        )
        output, state = self.lm.rnn(packed)
        output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        return self.lm.decoder(output[rows, lengths - 1]).float(), state

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Advance a recurrent model by ``tokens`` (N,)."""
        output, state = self.lm.rnn(self.lm.encoder(tokens.unsqueeze(1)), state)
        return self.lm.decoder(output[:, 0]).float(), state


@lru_cache(maxsize=4)
def read_language_model(path: str, vocabulary: int, device: torch.device) -> LanguageModel:
    """Read a language model from an ESPnet folder (``config.yaml`` and ``*.pth``).

    Raises:
        UserError: nothing usable is there, or its vocabulary has another size than the model's.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise UserError(f"there is no language model at {path}, expected an ESPnet folder; check the path")
    files = find_files(folder)
    config = read_config(files.config)
    factory = espnet.known_class("language model", espnet.LANGUAGE_MODELS, str(config.get("lm", "seq_rnn")))
    tokens = read_token_list(config.get("token_list"))
    if len(tokens) != vocabulary:
        raise UserError(
            f"the language model {path} has {len(tokens)} tokens, the speech model {vocabulary}; take one trained with "
            "the same token list"
        )
    assert factory is not None
    model = LanguageModel(factory(vocab_size=len(tokens), **(config.get("lm_conf") or {})), tokens)
    state = read_weights(files.weights)
    missing, extra = model.load_state_dict(state, strict=False)
    if missing or extra:
        raise UserError(
            f"the weights {files.weights} do not fit the language model's config: {len(missing)} keys missing, "
            f"{len(extra)} unexpected; take both from the same training"
        )
    return model.eval().requires_grad_(False).to(device)
