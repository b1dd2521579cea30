"""The draft: greedy CTC, collapsed, with frame spans and confidences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parlab.model.encoded import Encoded
from parlab.model.heads.drafted import Drafted
from parlab.model.hybrid import HybridModel
from parlab.text.spelling import SpelledWord
from parlab.transfer import to_host
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Posteriors:
    """What CTC says of a batch of B utterances.

    Attributes:
        log_probs: (B, T, V) log-posteriors, float32, of ``frames`` (B,).
        blank: CTC's blank.
        tokens: (V) CTC's vocabulary.
        stop: the token that stands for the end of a text there: in no draft.
    """

    log_probs: Tensor
    frames: Tensor
    blank: int
    tokens: Sequence[str]
    stop: int

    @staticmethod
    def of(model: HybridModel, encoded: Encoded) -> Posteriors:
        """By the draft head where there is one, else by the model's CTC head."""
        drafted, special = encoded.drafted, model.special
        if drafted is None:
            return Posteriors(encoded.posteriors, encoded.frames, special.blank, model.token_list, special.eos)
        return Posteriors(drafted.log_probs, drafted.frames, 0, drafted.spelling.source.token_list, 0)


@dataclass(frozen=True)
class Draft:
    """Drafts of B utterances, padded to U tokens, on the host.

    Attributes:
        tokens: (B, U) ids; padding is 0.
        lengths: (B,) tokens of each utterance.
        confidence: (B, U) highest posterior in the token's run of frames; padding is 1.
        first, last: (B, U) first and last frame of the run.
        frames: (B,) frames of each utterance.
        score: (B,) log-probability of the best path, all frames.
    """

    tokens: Tensor
    lengths: Tensor
    confidence: Tensor
    first: Tensor
    last: Tensor
    frames: Tensor
    score: Tensor


@dataclass(frozen=True)
class Runs:
    """The runs of equal labels of B best paths; those that are not blank are draft tokens.

    Attributes:
        best: (B, T) log-posterior of each frame's label.
        ids: (B, T) the labels; blank past an utterance's end.
        index: (B, T) number of the token that a frame belongs to; ``width`` where its label is blank.
        count: (B,) tokens of each utterance.
        width: the most tokens of an utterance.
    """

    best: Tensor
    ids: Tensor
    index: Tensor
    count: Tensor
    width: int

    def with_blanks(self, frames: Tensor) -> Tensor:
        """``index`` with blank frames counted to the token before them, or to the first one; ``width`` past the end (B,)."""
        frame = torch.arange(self.ids.size(1), device=self.ids.device)
        latest = self.index.masked_fill(self.index == self.width, 0).cummax(1).values if self.width else self.index
        outside = (frame >= frames.unsqueeze(1)) | (self.count == 0).unsqueeze(1)
        return latest.masked_fill(outside, self.width)


def find_runs(log_probs: Tensor, frames: Tensor, blank: int) -> Runs:
    """The runs of the best paths of ``log_probs`` (B, T, V) of ``frames`` (B,). One host sync, for the width."""
    return runs_of(*log_probs.max(dim=-1), frames, blank)


def runs_of(best: Tensor, ids: Tensor, frames: Tensor, blank: int) -> Runs:
    """The runs of best paths: log-posteriors and labels (B, T) of ``frames`` (B,)."""
    # 1. Frames past an utterance's end are blank.
    inside = torch.arange(ids.size(1), device=ids.device) < frames.unsqueeze(1)
    ids = ids.masked_fill(~inside, blank)
    # 2. Runs of equal frames are numbered along the utterance; those that are not blank are tokens.
    changed = torch.ones_like(inside)
    changed[:, 1:] = ids[:, 1:] != ids[:, :-1]
    starts = changed & (ids != blank)
    count = starts.sum(1)
    width = int(count.max())
    return Runs(best, ids, torch.where(ids != blank, starts.cumsum(1) - 1, width), count, width)


def greedy_draft(log_probs: Tensor, frames: Tensor, blank: int) -> Draft:
    """Best path of ``log_probs`` (B, T, V) of ``frames`` (B,), repeats collapsed and blanks dropped, on the host.

    One host sync: the path is read, and what follows from it is little.
    """
    batch, size = log_probs.shape[:2]
    if size == 0:
        [frames] = to_host(frames)
        empty = torch.zeros(batch, 0, dtype=torch.long)
        return Draft(empty, frames * 0, empty.float(), empty, empty, frames, torch.zeros(batch))
    best, ids, frames = to_host(*log_probs.max(dim=-1), frames)
    runs = runs_of(best, ids, frames, blank)

    # Each token collects the values of its frames; blanks go to a spare column.
    def collect(values: Tensor, fill: float, reduce: str) -> Tensor:
        out = values.new_full((batch, runs.width + 1), fill)
        return out.scatter_reduce(1, runs.index, values, reduce)[:, : runs.width]

    frame = torch.arange(size)
    positions = frame.expand(batch, size)
    confidence = collect(runs.best, float("-inf"), "amax")
    padding = torch.arange(runs.width) >= runs.count.unsqueeze(1)
    return Draft(
        tokens=collect(runs.ids, 0, "amax"),
        lengths=runs.count,
        confidence=confidence.exp().masked_fill(padding, 1.0),
        first=collect(positions, size, "amin").masked_fill(padding, 0),
        last=collect(positions, 0, "amax"),
        frames=frames,
        score=runs.best.masked_fill(frame >= frames.unsqueeze(1), 0.0).sum(1),
    )


def draft_hypotheses(draft: Draft, stride: int = 1) -> list[Hypothesis]:
    """Drafts as hypotheses; the score is that of the best path.

    Args:
        stride: encoder frames that are one of the draft's.
    """
    columns = (draft.tokens, draft.confidence, draft.first, draft.last, draft.lengths, draft.score)
    return [
        Hypothesis(
            tokens=tuple(tokens[:n]),
            score=score,
            token_confidence=tuple(confidence[:n]),
            token_frames=tuple((a * stride, (b + 1) * stride - 1) for a, b in zip(first[:n], last[:n], strict=True)),
            counts={"tokens": n},
        )
        for tokens, confidence, first, last, n, score in zip(*(c.tolist() for c in columns), strict=True)
    ]


def respelled(draft: Draft, drafted: Drafted) -> list[Hypothesis]:
    """The draft's words in the decoder's tokens; the score is that of the best path.

    A word's confidence is the least of its draft tokens', its frames run from the first of them to the last; all of its
    decoder tokens have both. Punctuation at a word's edges has no say in its confidence.
    """
    return [hypothesis for hypothesis, _ in spelled(draft, drafted)]


def spelled(draft: Draft, drafted: Drafted) -> list[tuple[Hypothesis, list[SpelledWord]]]:
    """The hypotheses of ``respelled``, each with the words that it consists of."""
    return [respell(hypothesis, drafted) for hypothesis in draft_hypotheses(draft)]


def respell(written: Hypothesis, drafted: Drafted) -> tuple[Hypothesis, list[SpelledWord]]:
    """A hypothesis in the head's tokens, with the head's frames, as ``respelled`` gives it; and the words that it consists of."""
    ids: list[int] = []
    sure: list[float] = []
    spans: list[tuple[int, int]] = []
    tokens, confidence, frames = written.tokens, written.token_confidence, written.token_frames
    words = drafted.spelling.words(tokens)
    for word in words:
        start, end = drafted.spelling.core(word, tokens)
        ids += word.tokens
        sure += [min(confidence[start:end])] * len(word.tokens)
        span = (frames[word.start][0] * drafted.stride, (frames[word.end - 1][1] + 1) * drafted.stride - 1)
        spans += [span] * len(word.tokens)
    counts = {"tokens": len(ids), "draft_tokens": len(tokens)}
    return Hypothesis(tuple(ids), written.score, tuple(sure), tuple(spans), counts=counts), words
