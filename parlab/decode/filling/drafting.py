"""What PAR drafts from: the model's CTC head, or a draft head whose words are spelled in the decoder's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.draft import Draft, draft_hypotheses, greedy_draft, spelled
from parlab.decode.masking import mask_below, mask_words
from parlab.decode.segments import NO_TOKEN, Segments
from parlab.model.encoded import Encoded
from parlab.model.heads.drafted import Drafted
from parlab.model.hybrid import HybridModel
from parlab.text.padding import pad_tokens
from parlab.text.spelling import SpelledWord, Spelling
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Drafting:
    """Drafts of B utterances of U tokens of the decoder, on the host, and the posteriors that they come from.

    Attributes:
        draft: its frames are those of ``log_probs``.
        greedy: the same as hypotheses; their frames are the encoder's.
        log_probs: (B, T', V') CTC's log-posteriors, of the model's own head or of a draft head.
        blank: CTC's blank.
        stride: encoder frames that are one of T'.
        word_lengths: (B, U + 1) tokens of the word that begins at a token; after the last token, 1 for ``<eos>``. 1
            everywhere where words are not spelled.
        spelling: how words are spelled; None where CTC writes the decoder's own tokens.
        edges: (2, B, U) first and last token of each token's word in CTC's vocabulary, where words are spelled.
    """

    draft: Draft
    greedy: list[Hypothesis]
    log_probs: Tensor
    blank: int
    stride: int
    word_lengths: Tensor
    spelling: Spelling | None = None
    edges: Tensor | None = None

    @staticmethod
    def of(model: HybridModel, encoded: Encoded) -> Drafting:
        """The drafts of a batch: by the draft head where there is one, else by the model's CTC head."""
        drafted = encoded.drafted
        if drafted is None:
            return _plain(encoded.posteriors, encoded.frames, model.special.blank, 1)
        if drafted.spelling.same:
            return _plain(drafted.log_probs, drafted.frames, 0, drafted.stride)
        return _spelled(drafted)

    def masked(self, model: HybridModel, threshold: float, unit: str) -> Tensor:
        """Masks (B, U) of tokens below the threshold, or of words; where words are spelled, always of words."""
        masked = mask_below(self.draft, threshold)
        if self.spelling is None and unit == "word":
            return mask_words(self.draft, masked, model.word_edges(masked.device))
        return masked  # the tokens of a spelled word have one confidence

    def neighbours(self, segments: Segments) -> tuple[Tensor, Tensor]:
        """CTC's tokens (S,) on both sides of each segment, ``NO_TOKEN`` at the edges of the utterance."""
        if self.edges is None:
            return segments.left, segments.right
        before, after = (segments.start - 1).clamp(min=0), segments.end.clamp(max=self.edges.size(2) - 1)
        left = self.edges[1, segments.owner, before].masked_fill(segments.left < 0, NO_TOKEN)
        right = self.edges[0, segments.owner, after].masked_fill(segments.right < 0, NO_TOKEN)
        return left, right

    def in_encoder_frames(self, segments: Segments) -> Segments:
        """Segments whose windows count the encoder's frames."""
        if self.stride == 1:
            return segments
        return replace(segments, first=segments.first * self.stride, last=(segments.last + 1) * self.stride - 1)


def _plain(log_probs: Tensor, frames: Tensor, blank: int, stride: int) -> Drafting:
    """Drafts in CTC's own tokens."""
    draft = greedy_draft(log_probs, frames, blank).to_host()
    greedy = draft_hypotheses(draft)
    if stride > 1:
        wide = [tuple((a * stride, (b + 1) * stride - 1) for a, b in h.token_frames) for h in greedy]
        greedy = [replace(h, token_frames=spans) for h, spans in zip(greedy, wide, strict=True)]
    ones = torch.ones(len(greedy), draft.tokens.size(1) + 1, dtype=torch.long)
    return Drafting(draft, greedy, log_probs, blank, stride, ones)


def _spelled(drafted: Drafted) -> Drafting:
    """Drafts of a head whose words are spelled in the decoder's tokens."""
    written = greedy_draft(drafted.log_probs, drafted.frames, blank=0).to_host()
    found = spelled(written, drafted)
    greedy = [hypothesis for hypothesis, _ in found]
    tokens, lengths = pad_tokens([h.tokens for h in greedy])
    shape = (len(greedy), max((len(h.tokens) for h in greedy), default=0))
    tokens = tokens[:, : shape[1]].reshape(shape)
    numbers = torch.zeros(4, *shape, dtype=torch.long)  # first frame, last frame, first letter, last letter
    confidence = torch.ones(shape)
    word_lengths = torch.ones(shape[0], shape[1] + 1, dtype=torch.long)
    for i, (hypothesis, words) in enumerate(found):
        confidence[i, : len(hypothesis.tokens)] = torch.tensor(hypothesis.token_confidence, dtype=torch.float32)
        rows = _rows(words, written.tokens[i].tolist(), written.first[i].tolist(), written.last[i].tolist())
        columns = list(zip(*rows, strict=True))
        if columns:
            numbers[:, i, : len(rows)] = torch.tensor(columns[:4])
            word_lengths[i, : len(rows)] = torch.tensor(columns[4])
    draft = Draft(tokens, lengths, confidence, numbers[0], numbers[1], written.frames, written.score)
    return Drafting(draft, greedy, drafted.log_probs, 0, drafted.stride, word_lengths, drafted.spelling, numbers[2:])


def _rows(
    words: Sequence[SpelledWord], letters: Sequence[int], first: Sequence[int], last: Sequence[int]
) -> list[tuple[int, int, int, int, int]]:
    """For each token of the decoder its word's first and last frame, first and last letter, and the tokens from it on."""
    rows = []
    for word in words:
        span = first[word.start], last[word.end - 1], letters[word.start], letters[word.end - 1]
        rows += [(*span, len(word.tokens) - i) for i in range(len(word.tokens))]
    return rows
