"""CTC prefix beam search, batched over utterances (Hannun et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from parlab.decode.draft import Posteriors, respell
from parlab.decode.ended import NEVER
from parlab.decode.search.frames import NO_AUTOMATA, Automata, Beam, FrameSearch, grow_live
from parlab.decode.search.mode import mode
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel
from parlab.transfer import to_host
from parlab.types import Hypothesis


@dataclass(frozen=True)
class Prefixes:
    """The K best prefixes of B utterances after T frames.

    Attributes:
        score: (B, K) log-probability, with what automata add where it is counted; ``-inf`` where there are fewer.
        rank: (B, K) what they are sorted by: the log-probability and what automata add.
        parent, token: (T, B, K) which old prefix a prefix of frame t came from, and the token it appended, or -1.
    """

    score: Tensor
    rank: Tensor
    parent: Tensor
    token: Tensor


def check_beam(beam_size: int, nbest: int, token_beam: int) -> None:
    """Refuse sizes that leave nothing.

    Raises:
        UserError: one is below 1.
    """
    if min(beam_size, nbest, token_beam) < 1:
        raise UserError(
            f"beam_size, nbest and token_beam are {beam_size}, {nbest} and {token_beam}, expected at least 1 each; correct them"
        )


@dataclass(frozen=True)
class PrefixBeam:
    """Widths of the search.

    Attributes:
        beam: prefixes kept per utterance.
        token_beam: tokens that may extend a prefix at a frame, the most probable ones.
        blank_skip: frames whose blank posterior is at least this only add a blank; 1.0 skips none.
        automata: what is counted beside CTC's probability.
    """

    beam: int
    token_beam: int
    blank_skip: float = 1.0
    automata: Automata = NO_AUTOMATA


def prefix_beam(log_probs: Tensor, frames: Tensor, blank: int, options: PrefixBeam) -> Prefixes:
    """Search ``log_probs`` (B, T, V) of ``frames`` (B,), all utterances frame by frame."""
    batch, size, vocabulary = log_probs.shape
    beam, automata = options.beam, options.automata
    # 1. The tokens that may extend a prefix at each frame; none where the blank is nearly sure.
    text = log_probs.clone()
    text[..., blank] = NEVER
    best, ids = text.topk(min(options.token_beam, vocabulary - 1), dim=2)  # (B, T, C)
    at_blank = log_probs[..., blank]
    skip = torch.zeros_like(at_blank, dtype=torch.bool)
    if options.blank_skip < 1.0:
        skip = at_blank.exp() >= options.blank_skip
    grown = best.masked_fill(skip.unsqueeze(2), NEVER)
    # 2. Several frames at a time where the search has fixed shapes.
    device = log_probs.device
    if mode().is_fixed(device) and size and not any(part.on_host for part in automata.parts):
        search = FrameSearch.of((log_probs, at_blank, grown, ids), frames, automata)
        state = search.run(beam, mode().stepper(device))
        return _prefixes(state.beam, automata, state.parent[:size].clone(), state.token[:size].clone())
    # 3. Else frame by frame; the prefixes of utterances that have ended stay as they are.
    stay = torch.arange(beam, device=device).expand(batch, beam)
    prefixes = Beam.empty(batch, beam, log_probs, automata)
    parents, appended = [], []
    for t in range(size):
        frame = log_probs[:, t], at_blank[:, t], grown[:, t], ids[:, t]
        prefixes, parent, token = grow_live(prefixes, t < frames, stay, frame, automata)
        parents.append(parent)
        appended.append(token)
    empty = prefixes.last.new_zeros(0, batch, beam)
    steps = (torch.stack(x) if x else empty for x in (parents, appended))
    return _prefixes(prefixes, automata, *steps)


def _prefixes(beam: Beam, automata: Automata, parent: Tensor, token: Tensor) -> Prefixes:
    """The prefixes of a beam after the last frame."""
    score = torch.logaddexp(beam.ends_blank, beam.ends_token)
    rank = score + automata.ending(beam)
    return Prefixes(rank if automata.counted else score, rank, parent, token)


def prefix_hypotheses(prefixes: Prefixes, log_probs: Tensor, frames: Tensor, nbest: int) -> list[Hypothesis]:
    """The prefixes as hypotheses, best first; a token's confidence is its highest posterior until the next token.

    Args:
        prefixes: K prefixes of each of B utterances.
        log_probs: (B, T, V) the posteriors that were searched, of ``frames`` (B,).
        nbest: prefixes listed in ``nbest`` of each hypothesis; 1 lists none.
    """
    *paths, count = to_host(*best_paths(prefixes, log_probs, nbest), frames)
    return path_hypotheses(paths, count, listed=nbest > 1)


def best_paths(prefixes: Prefixes, log_probs: Tensor, nbest: int) -> tuple[Tensor, Tensor, Tensor]:
    """What is to be read of the n (``nbest`` or fewer) best prefixes, best first, without a wait for the device.

    Args:
        log_probs: (B, T, V) the posteriors that were searched.

    Returns:
        scores (B, n); (B, n, T) the token that each appended at each frame, or -1; (B, n, T) the posterior of the newest token there.
    """
    order = prefixes.rank.argsort(dim=1, descending=True, stable=True)[:, :nbest]
    path = _paths(prefixes, order)
    # A prefix takes a token up long before its peak: the token's frame is where its posterior is highest until the next one.
    size = path.size(2)
    posterior = path.float()
    if size:
        started = torch.where(path >= 0, torch.arange(size, device=path.device), 0).cummax(2).values
        newest = path.gather(2, started).clamp(min=0)  # the newest token at each frame
        posterior = log_probs.gather(2, newest.transpose(1, 2)).transpose(1, 2).exp()
    return prefixes.score.gather(1, order), path, posterior


def path_hypotheses(paths: Sequence[Tensor], frames: Tensor, listed: bool) -> list[Hypothesis]:
    """``best_paths`` of utterances of ``frames`` (B,), on the host, as hypotheses; ``listed``: with their ``nbest``."""
    hypotheses = []
    for *utterance, end in zip(*(x.tolist() for x in (*paths, frames)), strict=True):
        rows = zip(*utterance, strict=True)
        found = tuple(_hypothesis(value, steps[:end], chances) for value, steps, chances in rows if value != NEVER)
        hypotheses.append(replace(found[0], nbest=found) if listed else found[0])
    return hypotheses


def ctc_nbest(model: HybridModel, encoded: Encoded, beam: PrefixBeam, nbest: int) -> list[Hypothesis]:
    """CTC's best hypotheses in the decoder's tokens: of the draft head where there is one, else of the model's CTC head.

    Args:
        nbest: listed in ``nbest`` of each hypothesis; 1 lists none. Of a head's texts that are spelled alike the best one is.
    """
    given, drafted = Posteriors.of(model, encoded), encoded.drafted
    prefixes = prefix_beam(given.log_probs, given.frames, given.blank, beam)
    hypotheses = prefix_hypotheses(prefixes, given.log_probs, given.frames, nbest)
    if drafted is None:
        return hypotheses
    found = []
    for hypothesis in hypotheses:
        texts: dict[tuple[int, ...], Hypothesis] = {}
        for written in hypothesis.nbest or (hypothesis,):
            spelled, _ = respell(written, drafted)
            texts.setdefault(spelled.tokens, spelled)
        listed = tuple(texts.values())
        found.append(replace(listed[0], nbest=listed) if nbest > 1 else listed[0])
    return found


def _paths(prefixes: Prefixes, order: Tensor) -> Tensor:
    """The token (B, n, T) that each prefix appended at each frame, or -1; prefix i is number ``order`` (B, n) of the K.

    Where a last prefix stood at each frame follows from the parents of all later frames: their maps are composed in
    log2(T) rounds, each of which doubles the frames that a map spans.
    """
    frames = len(prefixes.parent)
    if not frames:
        return order.new_full((*order.shape, 0), -1)
    own = torch.arange(prefixes.parent.size(2), device=order.device).expand_as(prefixes.parent[:1])
    maps = torch.cat([prefixes.parent[1:], own])
    span = 1
    while span < frames:
        maps = torch.cat([maps[:-span].gather(2, maps[span:]), maps[-span:]])
        span *= 2
    return prefixes.token.gather(2, maps.gather(2, order.expand(frames, -1, -1))).permute(1, 2, 0)


def _hypothesis(score: float, steps: Sequence[int], chances: Sequence[float]) -> Hypothesis:
    """One prefix: the token appended at each frame of the utterance or -1, and the posterior of the newest token at each frame."""
    starts = [t for t, token in enumerate(steps) if token >= 0]
    peaks = [max(range(a, b), key=chances.__getitem__) for a, b in pairwise([*starts, len(steps)])]
    return Hypothesis(
        tokens=tuple(steps[t] for t in starts),
        score=score,
        token_confidence=tuple(chances[t] for t in peaks),
        token_frames=tuple((t, t) for t in peaks),
        counts={"tokens": len(starts)},
    )
