"""OWSM-CTC (Peng et al., ACL 2024): an encoder that reads the prompt, and a CTC head; no decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parlab.errors import UserError
from parlab.model.families import espnet
from parlab.model.hybrid import HybridModel
from parlab.model.losses import Losses
from parlab.text.s2t import S2TSymbols
from parlab.text.targets import Targets
from parlab.transfer import numbers_on
from parlab.types import SpecialTokens


class S2TCTCModel(HybridModel):
    """ESPnet's ``ESPnetS2TCTCModel``, key for key.

    A prompt is ``(*previous text, language, task)``: the encoder gets the last two as frames before the speech, and
    attends to the encoded previous text. The CTC output starts with language and task.
    """

    prompt_frames = 2  # language and task

    def __init__(
        self,
        config: Mapping[str, Any],
        special: SpecialTokens,
        parts: Mapping[str, nn.Module | None],
        s2t: S2TSymbols,
    ):
        super().__init__(config, special, parts, "s2t_ctc", s2t)
        reader: Any = parts["prompt_encoder"]
        self.prompt_encoder: Any = reader
        inner, outer = reader.output_size(), self.encoder.output_size()
        self.embed = nn.Embedding(self.vocab_size, inner)
        self.pos_enc = espnet.positional_encoding(inner)
        self.embed_proj: nn.Module = nn.Linear(inner, outer) if inner != outer else nn.Identity()
        self.prompt_proj: nn.Module = nn.Linear(inner, outer) if inner != outer else nn.Identity()

    def encode(
        self, speech: Tensor, lengths: Tensor, prompts: Sequence[tuple[int, ...]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``HybridModel.encode``; utterances of one prompt are encoded together."""
        # 1. Who goes together: one prompt, and one length where neighbours of other lengths would change a result.
        prompts = [self.prompt] * len(lengths) if prompts is None else prompts
        sizes = [speech.size(1)] * len(prompts) if self._batch_invariant else lengths.tolist()
        groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for i, key in enumerate(zip(prompts, sizes, strict=True)):
            groups.setdefault(key, []).append(i)
        # 2. Encode.
        if len(groups) == 1:
            return self._encode_prompted(*self.features(speech[:, : sizes[0]], lengths), prompts[0])
        members = numbers_on(speech.device, *groups.values())
        outputs = [
            self._encode_prompted(*self.features(speech[index, :size], lengths[index]), prompt)
            for (prompt, size), index in zip(groups, members, strict=True)
        ]
        # 3. Back into the order of the batch.
        longest = max(states.size(1) for states, _ in outputs)
        padded = [torch.nn.functional.pad(states, (0, 0, 0, longest - states.size(1))) for states, _ in outputs]
        order = torch.cat(members).argsort()
        return torch.cat(padded)[order], torch.cat([count for _, count in outputs])[order]

    def loss(self, speech: Tensor, lengths: Tensor, targets: Targets) -> Losses:
        """This model cannot be trained here.

        Raises:
            UserError: always.
        """
        raise UserError(
            "OWSM-CTC models can be decoded but not trained here, expected an OWSM model with a decoder; name one"
        )

    def _encode_prompted(self, x: Tensor, frames: Tensor, prompt: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Features (N, frames, n_mels) of one prompt to encoder output (N, T, D) and frame counts (N,)."""
        ids = numbers_on(x.device, prompt)[0].expand(len(x), -1)
        previous, prefix = ids[:, :-2], ids[:, -2:]
        x = x.to(next(self.encoder.parameters()).dtype)
        size = torch.full_like(frames, previous.size(1))
        with self.one_thread:
            # A mask is given, because the encoder would read the longest length back from the device.
            padding = torch.zeros_like(previous, dtype=torch.bool)
            memory, _, _ = self.prompt_encoder(self.pos_enc(self.embed(previous)), size, masks=padding)
            mask = torch.ones(len(x), 1, previous.size(1), dtype=torch.bool, device=x.device)
            output, count, _ = self.encoder(
                x,
                frames,
                ctc=self.ctc,
                prefix_embeds=self.embed_proj(self.embed(prefix)),
                memory=self.prompt_proj(memory),
                memory_mask=mask,
            )
        return (output[0] if isinstance(output, tuple) else output), count
