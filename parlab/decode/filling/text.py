"""The texts that segments are parts of, and the decoder's scores of them by the teacher-forced pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.decode.prefill import Prefill
from parlab.decode.segments import Segments
from parlab.text.padding import pad_tokens
from parlab.transfer import to_device


@dataclass(frozen=True)
class Text:
    """The texts of B utterances that segments are parts of: at first the drafts; on the host.

    Attributes:
        tokens: (B, U) ids, of which ``lengths`` (B,) count.
    """

    tokens: Tensor
    lengths: Tensor

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> Text:
        """The text of each row of token ids."""
        return Text(*pad_tokens(rows))

    def rows(self) -> list[list[int]]:
        """The token ids of each text."""
        return [row[:n] for row, n in zip(self.tokens.tolist(), self.lengths.tolist(), strict=True)]

    def own(self, segments: Segments) -> Tensor:
        """The segments' own tokens (S, longest); what follows one's last is anything."""
        longest = int((segments.end - segments.start).max()) if len(segments) else 0
        return self.at(segments.owner.unsqueeze(1), segments.start.unsqueeze(1) + torch.arange(longest))

    def following(self, segments: Segments, after: Tensor, eos: int) -> Tensor:
        """The ``after`` (S,) tokens that follow each segment (S, most); ``eos`` after the last token of a text."""
        column = segments.end.unsqueeze(1) + torch.arange(int(after.max()) if len(segments) else 0)
        owner = segments.owner.unsqueeze(1)
        return self.at(owner, column).masked_fill(column >= self.lengths[owner], eos)

    def at(self, owner: Tensor, column: Tensor) -> Tensor:
        """The tokens at ``column`` of the texts ``owner``; past the longest text's end, anything."""
        if self.tokens.size(1) == 0:
            return torch.zeros_like(owner + column)
        return self.tokens[owner, column.clamp(max=self.tokens.size(1) - 1)]


@dataclass(frozen=True)
class TokenScores:
    """The decoder's log-probabilities at n tokens of segments, on the device.

    Attributes:
        own: (n,) of the tokens.
        segment: (n,) the segment of each.
        logits: (n, V) scores of all tokens in place of each; ``total`` (n,) their log-sums.
    """

    own: Tensor
    segment: Tensor
    logits: Tensor
    total: Tensor

    def best(self) -> Tensor:
        """(n,) of the decoder's best token in place of each."""
        return self.logits.amax(1) - self.total


def token_scores(prefill: Prefill, text: Text, segments: Segments, after: Tensor, eos: int) -> TokenScores:
    """The decoder's log-probability of each token of the segments, and of the ``after`` (S,) tokens that follow each.

    The teacher-forced pass over the texts has them all; no decoder step is made.
    """
    # One row per token of a segment, and one per token after it.
    count = segments.end - segments.start + after
    segment = torch.repeat_interleave(torch.arange(len(count)), count)
    offset = torch.arange(len(segment)) - (count.cumsum(0) - count)[segment]
    owner = segments.owner[segment]
    column = segments.start[segment] + offset
    wanted = text.at(owner, column).masked_fill(column >= text.lengths[owner], eos)
    # Hidden states of the pass that predict them, from the token before the segment on.
    position = prefill.prompt_lengths[owner] + column - 1
    segment, row, position, wanted = to_device(prefill.hidden.device, segment, prefill.row[owner], position, wanted)
    logits = prefill.decoder.logits(prefill.hidden[row, position])
    total = torch.logsumexp(logits, 1)
    return TokenScores(logits.gather(1, wanted.unsqueeze(1)).squeeze(1) - total, segment, logits, total)


def text_scores(
    prefill: Prefill, texts: Mapping[int, Sequence[int]], starts: Sequence[int], eos: int
) -> tuple[TokenScores, list[int]]:
    """The decoder's log-probabilities of tokens of texts and of their ends, as far as it has positions; and how many each has.

    Args:
        texts: by their utterances; the pass was over them.
        starts: the first token of each that is asked for.
    """
    positions, prompts = prefill.decoder.spec.max_positions, prefill.prompt_lengths.tolist()
    ends = []
    for (owner, text), start in zip(texts.items(), starts, strict=True):
        room = len(text) if positions is None else positions - prompts[owner]
        ends.append(max(start, min(len(text), room)))
    rows = Text.of([texts.get(i, ()) for i in range(len(prompts))])
    none = torch.zeros(len(texts), dtype=torch.long)
    spans = Segments(torch.tensor(list(texts)), torch.tensor(starts), torch.tensor(ends), none, none, none, none)
    counts = [end - start + 1 for start, end in zip(starts, ends, strict=True)]
    return token_scores(prefill, rows, spans, none + 1, eos), counts
