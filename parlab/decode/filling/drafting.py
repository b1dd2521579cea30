"""What PAR drafts from: the model's CTC head, or a draft head whose words are spelled in the decoder's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parlab.decode.draft import Draft, Posteriors, draft_hypotheses, spelled
from parlab.decode.drafters.drafter import BEST_PATH, find_drafter
from parlab.decode.masking import Masks, grow_to_words, mask_words
from parlab.decode.segments import NO_TOKEN, Segments
from parlab.model.encoded import Encoded
from parlab.model.heads.drafted import Drafted
from parlab.model.hybrid import HybridModel
from parlab.text.padding import pad_tokens
from parlab.text.spelling import SpelledWord, Spelling
from parlab.transfer import to_host
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
        cores: (2, B, U) likewise the number of the first token that counts for the word's confidence, and of the one after
            the last: punctuation at the word's edges does not count.
        follows_best_path: whether CTC's tokens are the runs of its best path.
        heard: (B, U) how much of CTC's draft a corrected draft's words stand for, as ``sizes`` counts, at their first tokens; None where
            the decoder has corrected nothing.
    """

    draft: Draft
    greedy: list[Hypothesis]
    log_probs: Tensor
    blank: int
    stride: int
    word_lengths: Tensor
    spelling: Spelling | None = None
    edges: Tensor | None = None
    cores: Tensor | None = None
    follows_best_path: bool = True
    heard: Tensor | None = None

    @staticmethod
    def of(model: HybridModel, encoded: Encoded, drafter: str = BEST_PATH) -> Drafting:
        """The drafts of a batch: by the draft head where there is one, else by the model's CTC head.

        Args:
            drafter: by name, with its options.
        """
        chosen, drafted, given = find_drafter(drafter), encoded.drafted, Posteriors.of(model, encoded)
        written = chosen.draft(given)
        if drafted is None or drafted.spelling.same:
            return _plain(written, given, 1 if drafted is None else drafted.stride, chosen.follows_best_path)
        return _spelled(written, drafted, chosen.follows_best_path)

    def word_begins(self) -> Tensor:
        """True (B, U) at the first token of each spelled word; True everywhere where words are not spelled."""
        begins = torch.ones_like(self.draft.tokens, dtype=torch.bool)
        begins[:, 1:] = self.word_lengths[:, :-2] == 1
        return begins

    def silence(self) -> Tensor:
        """How sure (B, U + 1) CTC is, on the host, that nothing is said before each token and after the last one.

        It is the least posterior of blank in the frames between, the blank between spelled words counted to it; 1 where
        there is no frame between.
        """
        quiet = self.log_probs[..., self.blank].exp()
        if self.spelling is not None and self.spelling.space >= 0:
            quiet = quiet + self.log_probs[..., self.spelling.space].exp()
        [quiet] = to_host(quiet.clamp(max=1.0))
        # Tokens that have begun by a frame, and those that have ended before it: equal between two tokens.
        draft, size = self.draft, quiet.size(1)
        inside = (torch.arange(draft.tokens.size(1)) < draft.lengths.unsqueeze(1)).long()
        begun, ended = (torch.zeros(len(quiet), size + 1, dtype=torch.long) for _ in range(2))
        begun = begun.scatter_add_(1, draft.first, inside).cumsum(1)[:, :size]
        ended = ended.scatter_add_(1, draft.last + 1, inside).cumsum(1)[:, :size]
        between = (begun == ended) & (torch.arange(size) < draft.frames.unsqueeze(1))
        out = quiet.new_ones(len(quiet), inside.size(1) + 1)
        return out.scatter_reduce_(1, begun, quiet.masked_fill(~between, 1.0), "amin")

    def masked(self, model: HybridModel, masks: Masks, unit: str) -> Masks:
        """Masks that grow to whole words where the unit is one, and where words are spelled."""
        if self.spelling is not None:
            tokens = grow_to_words(masks.tokens, self.word_begins())
        elif unit == "word":
            tokens = mask_words(self.draft, masks.tokens, model.word_edges(masks.tokens.device))
        else:
            tokens = masks.tokens
        return Masks(tokens, masks.gaps)

    def neighbours(self, segments: Segments) -> tuple[Tensor, Tensor]:
        """CTC's tokens (S,) on both sides of each segment, ``NO_TOKEN`` at the edges of the utterance."""
        if self.edges is None:
            return segments.left, segments.right
        before, after = (segments.start - 1).clamp(min=0), segments.end.clamp(max=self.edges.size(2) - 1)
        left = self.edges[1, segments.owner, before].masked_fill(segments.left < 0, NO_TOKEN)
        right = self.edges[0, segments.owner, after].masked_fill(segments.right < 0, NO_TOKEN)
        return left, right

    def sizes(self, vocabulary: int) -> Tensor:
        """Letters (V,) of each of the decoder's tokens, on the host; 1 each where words are not spelled by letters."""
        if self.spelling is None or not self.spelling.by_letters:
            return torch.ones(vocabulary, dtype=torch.long)
        return self.spelling.letter_counts

    def heard_in(self, segments: Segments, sizes: Tensor) -> Tensor:
        """Letters (S,) that CTC wrote in segments, on the host.

        Args:
            sizes: those of ``sizes``.
        """
        heard = sizes[self.draft.tokens] if self.heard is None else self.heard
        total = torch.nn.functional.pad(heard.cumsum(1), (1, 0))
        return total[segments.owner, segments.end] - total[segments.owner, segments.start]

    def in_encoder_frames(self, segments: Segments) -> Segments:
        """Segments whose windows count the encoder's frames."""
        if self.stride == 1:
            return segments
        return replace(segments, first=segments.first * self.stride, last=(segments.last + 1) * self.stride - 1)


def _plain(draft: Draft, given: Posteriors, stride: int, follows_best_path: bool) -> Drafting:
    """Drafts in CTC's own tokens."""
    greedy = draft_hypotheses(draft, stride)
    ones = torch.ones(len(greedy), draft.tokens.size(1) + 1, dtype=torch.long)
    return Drafting(draft, greedy, given.log_probs, given.blank, stride, ones, follows_best_path=follows_best_path)


def _spelled(written: Draft, drafted: Drafted, follows_best_path: bool) -> Drafting:
    """Drafts of a head whose words are spelled in the decoder's tokens."""
    found = spelled(written, drafted)
    greedy = [hypothesis for hypothesis, _ in found]
    tokens, lengths = pad_tokens([h.tokens for h in greedy])
    shape = (len(greedy), max((len(h.tokens) for h in greedy), default=0))
    tokens = tokens[:, : shape[1]].reshape(shape)
    numbers = torch.zeros(6, *shape, dtype=torch.long)  # as the columns of _rows
    confidence = torch.ones(shape)
    word_lengths = torch.ones(shape[0], shape[1] + 1, dtype=torch.long)
    for i, (hypothesis, words) in enumerate(found):
        confidence[i, : len(hypothesis.tokens)] = torch.tensor(hypothesis.token_confidence, dtype=torch.float32)
        rows = _rows(words, drafted.spelling, [x[i].tolist() for x in (written.tokens, written.first, written.last)])
        columns = list(zip(*rows, strict=True))
        if columns:
            numbers[:, i, : len(rows)] = torch.tensor(columns[:6])
            word_lengths[i, : len(rows)] = torch.tensor(columns[6])
    draft = Draft(tokens, lengths, confidence, numbers[0], numbers[1], written.frames, written.score)
    spelling, edges, cores = drafted.spelling, numbers[2:4], numbers[4:]
    return Drafting(
        draft, greedy, drafted.log_probs, 0, drafted.stride, word_lengths, spelling, edges, cores, follows_best_path
    )


def _rows(words: Sequence[SpelledWord], spelling: Spelling, written: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """For each token of the decoder: its word's first and last frame, first and last letter, the first letter that counts for
    its confidence and the one after the last (by number), and the word's tokens from it on.

    Args:
        written: the letters of the draft, their first and their last frames.
    """
    letters, first, last = written
    rows: list[tuple[int, ...]] = []
    for word in words:
        span = first[word.start], last[word.end - 1], letters[word.start], letters[word.end - 1]
        core = spelling.core(word, letters)
        rows += [(*span, *core, len(word.tokens) - i) for i in range(len(word.tokens))]
    return rows
