"""A draft head for Whisper's shapes with random weights: of the size of a taught one, and its draft is planned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle, islice, pairwise

import torch
from torch import Tensor

from parlab.model.heads.drafted import Drafted
from parlab.model.heads.folder import Head
from parlab.model.heads.making import make_head
from parlab.model.heads.network import HeadOptions
from parlab.model.heads.reading import Reading, blocks_of
from parlab.model.hybrid import HybridModel
from parlab.text.spelling import Spelling
from parlab.text.tokenizer import SPACE, Tokenizer

HEAD = HeadOptions(clones=2, blocks=1, width=256, stack=2)  # recipes/whisper/head.yaml
WORDS_PER_SECOND = 2.5  # read English
MASKED_EVERY = 5  # words
# Words of `random_whisper`, each a token of its vocabulary; no letter twice in a row, so that no run merges.
_WORDS = [f"t{n}" for n in range(1000, 9999, 37) if all(a != b for a, b in pairwise(str(n)))]
_SURE, _UNSURE = 0.999, 0.5


@dataclass(frozen=True)
class PlannedHead(Head):
    """A head that works as a taught one does, and then drafts what was planned; every fifth word is not sure."""

    @staticmethod
    def of(model: HybridModel, tokenizer: Tokenizer) -> PlannedHead:
        """A head for a model of ``random_whisper``, with random weights but for the clones."""
        letters = Tokenizer(["<blank>", SPACE, *sorted(set("".join(_WORDS)))], "char")
        network = make_head(HEAD, model, len(letters.token_list)).eval().requires_grad_(False)
        layers = HEAD.reads(len(blocks_of(model)))
        device = next(model.parameters()).device
        return PlannedHead(network, letters, Spelling(letters, tokenizer), layers).on(device)  # type: ignore[return-value]

    def draft(self, read: Reading) -> Drafted:
        drafted = super().draft(read)
        return replace(drafted, log_probs=self.planned(drafted.log_probs, read.states.size(1)))

    def planned(self, like: Tensor, frames: int) -> Tensor:
        """Log-posteriors in the shape of ``like`` (B, T', V'), for audio of ``frames`` encoder frames (50 a second)."""
        batch, size, vocabulary = like.shape
        # 1. Letters with the confidence of their words, a blank between two words.
        words = list(islice(cycle(_WORDS), max(1, int(WORDS_PER_SECOND * frames / 50))))
        letters = [
            (self.tokenizer.index[SPACE if c == " " else c], _UNSURE if i % MASKED_EVERY == 1 and c != " " else _SURE)
            for i, word in enumerate(words)
            for c in f"{word} "
        ][:-1]
        # 2. Each on a frame of its own.
        probabilities = torch.full((size, vocabulary), (1 - _SURE) / vocabulary)
        probabilities[:, 0] = _SURE
        for frame, (letter, chance) in zip(
            torch.linspace(0, size - 2, len(letters)).long().tolist(), letters, strict=True
        ):
            probabilities[frame, 0], probabilities[frame, letter] = (1 - chance) / 2, chance
        log_probs = (probabilities / probabilities.sum(-1, keepdim=True)).log()
        return log_probs.to(like.device).expand(batch, -1, -1)
