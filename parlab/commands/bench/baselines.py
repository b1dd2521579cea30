"""ESPnet's searches: its AR beam as it is, its PAR beam with a mended driver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parlab.decode.draft import greedy_draft
from parlab.decode.segments import find_segments, mask_below
from parlab.model.families.espnet import search_class
from parlab.model.hybrid import HybridModel


def espnet_ar(model: HybridModel, states: Tensor, beam: int, ctc_weight: float, tokens: int) -> Any:
    """ESPnet's ``BatchBeamSearch`` on one utterance (T, D), at most ``tokens`` long; returns its n-best."""
    special = model.special
    scorers: dict[str, Any] = {"decoder": model.decoder}
    if ctc_weight > 0:
        scorers["ctc"] = search_class("ctc_prefix")(ctc=model.ctc, eos=special.eos)
    search = search_class("beam")(
        beam_size=beam,
        weights={"decoder": 1 - ctc_weight, "ctc": ctc_weight},
        scorers=scorers,
        sos=special.sos,
        eos=special.eos,
        vocab_size=model.vocab_size,
        token_list=model.token_list,
        pre_beam_score_key="full",
    )
    return search(states, maxlenratio=-tokens, minlenratio=0.0)


def espnet_par(
    model: HybridModel,
    states: Tensor,
    log_probs: Tensor,
    threshold: float,
    beam: int,
    max_seq_len: int,
    parallel: int = -1,
) -> list[tuple[int, ...]]:
    """ESPnet's ``PartiallyARBeamSearch`` on one utterance: (T, D) and (T, V); returns the fills.

    The search is ESPnet's own. The driver around it is mended (its issue 6669): each segment gets its own context,
    adjacent masks are one segment, ``max_mask_parallel`` holds for each utterance anew, and no batch of segments is lost.
    """
    special = model.special
    lengths = torch.tensor([len(states)], device=states.device)
    draft = greedy_draft(log_probs.unsqueeze(0), lengths, special.blank)
    segments = find_segments(draft, mask_below(draft, threshold))
    tokens = draft.tokens[0].tolist()
    stops = [special.eos if right < 0 else right for right in segments.right.tolist()]
    primers = [[special.sos, *tokens[:start]] for start in segments.start.tolist()]
    size = len(stops) if parallel < 0 else parallel
    fills: list[tuple[int, ...]] = []
    for begin in range(0, len(stops), max(size, 1)):
        # A new search each time: it keeps tensors of the last number of masks.
        search = search_class("par_beam")(
            beam_size=beam,
            weights={"decoder": 1.0},
            scorers={"decoder": model.decoder},
            sos=special.sos,
            eos=special.eos,
            vocab_size=model.vocab_size + 1,  # it takes one off, for its mask token
            token_list=[*model.token_list, "<mask>"],
            pre_beam_score_key="full",
        )
        search.init_masks()
        chunk = range(begin, min(begin + size, len(stops)))
        for i in chunk:
            search.add_mask(primers[i], stops[i])
        for i, best in zip(chunk, search(states, max_seq_len), strict=True):
            found = best.yseq.tolist()[len(primers[i]) :]
            fills.append(tuple(found[:-1] if found and found[-1] == stops[i] else found))
    return fills
