"""The one teacher-forced pass over a batch of prefixes, and the scorer that searches make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.scorers.attention import AttentionScorer
from parlab.model.caches import CrossCache, PrefixCache
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.model.rows import RowDecoder
from parlab.text.padding import pad_tokens
from parlab.transfer import numbers_on, to_device


@dataclass(frozen=True)
class Prefill:
    """Caches and hidden states of prefixes: a prompt each, with or without a draft after it.

    Not all B utterances of a batch need a prefix: ``row`` says which of the R prefixes is an utterance's.

    Attributes:
        decoder: the decoder that made the states.
        cross: keys and values of the encoder's states.
        prefix: keys and values of the prefix tokens.
        hidden: (R, P, D); position i predicts token i + 1.
        prompt_lengths: (B,) tokens of each prompt, on the host.
        row: (B,) number of each utterance's prefix, on the host.
    """

    decoder: RowDecoder
    cross: CrossCache
    prefix: PrefixCache
    hidden: Tensor
    prompt_lengths: Tensor
    row: Tensor

    @staticmethod
    def of(
        decoder: RowDecoder,
        encoded: Encoded,
        drafts: Sequence[Sequence[int]] = (),
        utterances: Sequence[int] | None = None,
        earlier: Prefill | None = None,
    ) -> Prefill:
        """One pass over the prompts, each with its draft after it where ``drafts`` (B of them) are given.

        Args:
            utterances: those that need a prefix, in order; None is all.
            earlier: a pass over these utterances at least, whose cross caches serve again.
        """
        chosen = range(len(encoded)) if utterances is None else utterances
        rows = [[*encoded.prompts[i], *(drafts[i] if drafts else ())] for i in chosen]
        [tokens] = to_device(encoded.device, pad_tokens(rows)[0])
        cross = _cross(decoder, encoded, chosen) if earlier is None else earlier.cross_of(chosen)
        hidden, prefix = decoder.prefill(tokens, cross)
        prompt_lengths = torch.tensor([len(prompt) for prompt in encoded.prompts])
        return Prefill(decoder, cross, prefix, hidden, prompt_lengths, _numbers(chosen, len(encoded)))

    def again(self, encoded: Encoded, texts: Sequence[Sequence[int]], utterances: Sequence[int], kept: int) -> Prefill:
        """A pass over other texts (B), as far as they differ: each begins with the same ``kept`` tokens, the prompt among them.

        Args:
            utterances: those that need it, in order; of this pass.
        """
        rows = [[*encoded.prompts[i], *texts[i]][kept:] for i in utterances]
        index, tokens = to_device(encoded.device, self.row[list(utterances)], pad_tokens(rows)[0])
        cross, before = self.cross_of(utterances), self.prefix.beginning(index, kept)
        hidden, prefix = self.decoder.prefill(tokens, cross, before=before)
        hidden = torch.cat([self.hidden[:, :kept][index], hidden], 1)
        return Prefill(self.decoder, cross, prefix, hidden, self.prompt_lengths, _numbers(utterances, len(encoded)))

    def cross_of(self, utterances: Sequence[int]) -> CrossCache:
        """The cross caches of some of the utterances."""
        rows = self.row[list(utterances)].tolist()
        return self.cross if rows == list(range(len(self.hidden))) else self.cross.select(rows)

    def scorer(self, owner: Tensor, prefix_length: Tensor, weight: float) -> AttentionScorer:
        """The decoder as a scorer of G groups.

        Args:
            owner: (G,) utterance of each group, sorted, on the host.
            prefix_length: (G,) tokens that a group sees, on the host.
        """
        on_host = self.row[owner]
        row, length = to_device(self.hidden.device, on_host, prefix_length)
        first = self.hidden[row, length - 1]
        return AttentionScorer(self.decoder, self.cross, self.prefix, row, on_host, length, first, weight)


@dataclass(frozen=True)
class Passed:
    """The decoder's passes over drafts, before anything is searched.

    Attributes:
        counts: of each of B utterances.
        drafts: over the drafts as they are; None where there was none over all of them.
        caches: over all utterances, whatever the text: its cross caches serve again.
    """

    counts: list[int]
    drafts: Prefill | None = None
    caches: Prefill | None = None

    @staticmethod
    def once(utterances: int, drafts: Prefill | None) -> Passed:
        """One pass over the drafts, or none."""
        return Passed([0 if drafts is None else 1] * utterances, drafts, drafts)


def pass_over(
    model: HybridModel,
    encoded: Encoded,
    texts: Sequence[Sequence[int]],
    utterances: Sequence[int] | None = None,
    earlier: Prefill | None = None,
) -> Prefill:
    """One teacher-forced pass over the texts (B) of the given utterances, or of all, as far as the decoder has positions.

    Args:
        earlier: as for ``Prefill.of``.
    """
    decoder = model.rows
    return Prefill.of(decoder, encoded, _fitting(decoder, encoded, texts), utterances, earlier)


def pass_again(
    encoded: Encoded, texts: Sequence[Sequence[int]], utterances: Sequence[int], earlier: Prefill, kept: Sequence[int]
) -> Prefill:
    """Such a pass over texts that begin as those of an earlier one over these utterances do: what all of them keep is not read again.

    Args:
        kept: tokens that the text of each of ``utterances`` keeps at least.
    """
    texts = _fitting(earlier.decoder, encoded, texts)
    prompts = [len(encoded.prompts[i]) for i in utterances]
    longest = max(n + len(texts[i]) for n, i in zip(prompts, utterances, strict=True))
    same = min(n + count for n, count in zip(prompts, kept, strict=True))
    return earlier.again(encoded, texts, utterances, min(same, longest - 1))


def _fitting(decoder: RowDecoder, encoded: Encoded, texts: Sequence[Sequence[int]]) -> list[Sequence[int]]:
    """The texts (B) as far as the decoder has positions after their prompts."""
    positions = decoder.spec.max_positions
    if positions is None:
        return list(texts)
    return [text[: positions - len(prompt)] for text, prompt in zip(texts, encoded.prompts, strict=True)]


def _numbers(utterances: Sequence[int], batch: int) -> Tensor:
    """The number (B,) of each utterance's prefix where some utterances have one, in their order."""
    row = torch.zeros(batch, dtype=torch.long)
    row[list(utterances)] = torch.arange(len(utterances))
    return row


def _cross(decoder: RowDecoder, encoded: Encoded, utterances: Sequence[int]) -> CrossCache:
    """The cross caches of some utterances of a batch."""
    states, frames = encoded.states, encoded.frames
    if len(utterances) < len(encoded):
        [index] = numbers_on(encoded.device, utterances)
        states, frames = states[index], frames[index]
    return decoder.cross_cache(states, frames)
