"""What is known of the tokens of drafts: CTC's posteriors in their frames, and what the decoder says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from parlab.decode.draft import Runs, find_runs
from parlab.decode.filling.drafting import Drafting
from parlab.decode.filling.text import Text
from parlab.decode.prefill import Prefill
from parlab.errors import UserError
from parlab.transfer import to_device, to_host

REDUCTIONS = {"mean": "mean", "min": "amin", "max": "amax"}


@dataclass(frozen=True)
class Agreement:
    """What the decoder says of each draft token after the draft tokens before it, on the host.

    Attributes:
        log_prob: (B, U) of the token; 0 where the decoder has no position for it, and in padding.
        rank: (B, U) tokens that the decoder finds more probable; None where nobody counted them.
    """

    log_prob: Tensor
    rank: Tensor | None = None

    @staticmethod
    def of(prefill: Prefill, drafting: Drafting) -> Agreement:
        """Read off one teacher-forced pass over the drafts of all utterances; no decoder step is made."""
        text = Text(drafting.draft.tokens, drafting.draft.lengths)
        column = torch.arange(text.tokens.size(1))
        position = prefill.prompt_lengths.unsqueeze(1) + column - 1
        inside = (column < text.lengths.unsqueeze(1)) & (position < prefill.hidden.size(1))
        owner, column = inside.nonzero(as_tuple=True)
        wanted, row, at = text.tokens[owner, column], prefill.row[owner], position[owner, column]
        wanted, row, at = to_device(prefill.hidden.device, wanted, row, at)
        logits = prefill.decoder.logits(prefill.hidden[row, at])
        own = logits.gather(1, wanted.unsqueeze(1))
        better = (logits > own).sum(1)
        chances, better = to_host((own.squeeze(1) - torch.logsumexp(logits, 1)).float(), better)
        log_prob, rank = torch.zeros(inside.shape), torch.zeros(inside.shape, dtype=torch.long)
        log_prob[owner, column], rank[owner, column] = chances, better
        return Agreement(log_prob, rank)


@dataclass(frozen=True)
class Evidence:
    """Of the tokens of B drafts.

    Attributes:
        drafting: the drafts.
        agreement: the decoder's; None where nobody asked for it.
    """

    drafting: Drafting
    agreement: Agreement | None = None

    @cached_property
    def _runs(self) -> tuple[Tensor, Runs]:
        """The frames (B,) of the utterances and the runs of their best paths, on the device.

        Raises:
            UserError: the drafts' tokens are others.
        """
        if not self.drafting.follows_best_path:
            raise UserError(
                "a measure of CTC's frames reads the best path, but the drafts come from another drafter, expected the measure posterior, "
                "decoder or rank, or a product of them; choose one, or leave the drafter out"
            )
        [frames] = to_device(self.drafting.log_probs.device, self.drafting.draft.frames)
        return frames, find_runs(self.drafting.log_probs, frames, self.drafting.blank)

    def of_frames(
        self, value: Callable[[Tensor], Tensor], reduction: str, temperature: float = 1.0, blanks: bool = False
    ) -> Tensor:
        """A value (B, U) of each token from the values of its frames, on the host.

        A word that the decoder spells in several tokens gives them the least value of its letters, punctuation at its
        edges left out.

        Args:
            value: gives a number (n,) of the log-posteriors (n, V) of n frames.
            reduction: ``mean``, ``min`` or ``max`` over a token's frames.
            temperature: by which log-posteriors are divided first.
            blanks: whether the blank frames after a token count to it.
        """
        log_probs = self.drafting.log_probs
        frames, runs = self._runs
        index = runs.with_blanks(frames) if blanks else runs.index
        batch, frame = (index < runs.width).nonzero(as_tuple=True)
        chosen = log_probs[batch, frame]
        if temperature != 1.0:
            chosen = torch.log_softmax(chosen / temperature, dim=-1)
        # Sums in double precision: on a GPU the order of additions differs from run to run.
        flat = batch * runs.width + index[batch, frame]
        found = log_probs.new_ones(len(log_probs) * runs.width, dtype=torch.float64)
        found.scatter_reduce_(0, flat, value(chosen).double(), REDUCTIONS[reduction], include_self=False)
        [values] = to_host(found.view(len(log_probs), runs.width).float())
        return self._of_words(values, runs)

    def of_decoder(self, value: Callable[[Agreement], Tensor]) -> Tensor:
        """A value (B, U) of each token by the decoder; the tokens of a spelled word share the least of theirs.

        Args:
            value: gives the tokens' values (B, U).
        """
        assert self.agreement is not None, "the measure says that it reads the decoder"
        values = value(self.agreement)
        if self.drafting.spelling is None:
            return values
        word = self.drafting.word_begins().cumsum(1)
        least = values.new_ones(len(values), values.size(1) + 1).scatter_reduce_(1, word, values, "amin")
        return least.gather(1, word)

    def _of_words(self, values: Tensor, runs: Runs) -> Tensor:
        """The values (B, U) of the decoder's tokens from those of CTC's."""
        cores = self.drafting.cores
        if cores is None:
            return values
        out = torch.ones(self.drafting.draft.tokens.shape)
        lengths = self.drafting.draft.lengths.tolist()
        for b, row in enumerate(values.tolist()):
            starts, ends = cores[:, b].tolist()
            for u in range(lengths[b]):
                out[b, u] = min(row[starts[u] : ends[u]])
        return out
