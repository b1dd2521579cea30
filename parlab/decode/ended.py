"""Hypotheses of a search: the K best continuations of a step, and the n-best that have ended."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from parlab.transfer import to_host
from parlab.types import Hypothesis

NEVER = float("-inf")


@dataclass(frozen=True)
class Candidates:
    """The K best continuations of each of G groups, best first.

    Attributes:
        score: (G, K) summed score; ``-inf`` where there is none.
        tokens: (G, K, L) tokens, of which the first ``lengths`` (G, K) count.
        token_scores: (G, K, L) score of each token.
    """

    score: Tensor
    tokens: Tensor
    lengths: Tensor
    token_scores: Tensor


@dataclass(frozen=True)
class Ended:
    """The best ended hypotheses of each group, best first; E = nbest.

    Attributes:
        score: (G, E) summed score with the stop token; ``-inf`` where there is none.
        rank: (G, E) what they are sorted by: the score, or the score per token.
        tokens: (G, E, L) without the stop token; ``lengths`` (G, E) of them count.
        token_scores: (G, E, L) score of each token.
        forced: (G, E) true where the stop token was appended unscored.
        steps: (G,) decoder steps while the group was live, the first (free) one not counted.
    """

    score: Tensor
    rank: Tensor
    tokens: Tensor
    lengths: Tensor
    token_scores: Tensor
    forced: Tensor
    steps: Tensor

    @staticmethod
    def none(groups: int, nbest: int, device: torch.device) -> Ended:
        """Nothing has ended yet."""
        score = torch.full((groups, nbest), NEVER, device=device)
        count = torch.zeros(groups, nbest, dtype=torch.long, device=device)
        tokens = count.new_zeros(groups, nbest, 0)
        return Ended(score, score, tokens, count, score.new_zeros(tokens.shape), count.bool(), count.new_zeros(groups))

    def merge(self, new: Candidates, which: Tensor, forced: Tensor, normalize_length: bool, stops: int = 1) -> Ended:
        """The n-best after more hypotheses have ended.

        Args:
            which: (G, K) the candidates of ``new`` that have ended: their newest token is the stop token.
            forced: (G, K) those of them whose stop token is appended unscored after the newest one.
            normalize_length: rank by score per token, the stop token included; ``stops`` is how much an unscored one counts.
        """
        score = new.score.masked_fill(~which, NEVER)
        lengths = new.lengths - 1 + forced.long()  # the stop token is not kept
        rank = score / (new.lengths + stops * forced) if normalize_length else score
        kept_tokens, kept_scores = self.tokens, self.token_scores
        if padding := new.tokens.size(2) - kept_tokens.size(2):
            kept_tokens = torch.nn.functional.pad(kept_tokens, (0, padding))
            kept_scores = torch.nn.functional.pad(kept_scores, (0, padding))
        best, index = torch.cat([self.rank, rank], 1).topk(self.rank.size(1), dim=1)

        def pick(kept: Tensor, added: Tensor) -> Tensor:
            both = torch.cat([kept, added], 1)
            return both.gather(1, index if both.dim() == 2 else index.unsqueeze(2).expand(-1, -1, both.size(2)))

        return Ended(
            score=pick(self.score, score),
            rank=best,
            tokens=pick(kept_tokens, new.tokens),
            lengths=pick(self.lengths, lengths),
            token_scores=pick(kept_scores, new.token_scores),
            forced=pick(self.forced, forced),
            steps=self.steps,
        )

    def beats(self, rank: Tensor) -> Tensor:
        """Groups (G,) that have all of their n-best, none of which ranks below ``rank`` (G,)."""
        return (self.rank[:, -1] > NEVER) & (rank <= self.rank[:, -1])

    def with_broken(self, broken: Tensor) -> Ended:
        """The score NaN in groups (G,) where a score of the search was one."""
        where = broken.unsqueeze(1)
        return replace(self, score=self.score.masked_fill(where, float("nan")), forced=self.forced & ~where)

    def best(self, nbest: int) -> Ended:
        """The first ``nbest`` of each group."""
        cut = {f.name: getattr(self, f.name)[:, :nbest] for f in fields(self) if f.name != "steps"}
        return Ended(steps=self.steps, **cut)

    def hypotheses(self, bonus: float = 0.0) -> list[Hypothesis]:
        """A hypothesis per group, with its n-best list where more than one was kept; score ``-inf`` where none ended, NaN where
        a score was no number.

        Args:
            bonus: part of every token's score that is no log-probability.
        """
        out = []
        confidences = (self.token_scores - bonus).exp().clamp(max=1.0)
        columns = to_host(self.score, self.tokens, self.lengths, confidences, self.forced, self.steps)
        for scores, tokens, lengths, confidence, forced, steps in zip(*(c.tolist() for c in columns), strict=True):
            found = [
                Hypothesis(
                    tokens=tuple(tokens[i][: lengths[i]]),
                    score=score,
                    token_confidence=tuple(confidence[i][: lengths[i]]),
                    counts={
                        "tokens": lengths[i],
                        "decoder_passes": 1,
                        "decoder_steps": steps,
                        "forced_stops": int(forced[i]),
                    },
                )
                for i, score in enumerate(scores)
                if score > NEVER
            ]
            best = found[0] if found else Hypothesis((), scores[0])  # -inf, or NaN
            out.append(replace(best, nbest=tuple(found)) if len(scores) > 1 else best)
        return out
