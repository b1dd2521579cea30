"""ESPnet's searches: its AR beam as it is, its PAR beam with a correct driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parlab.decode import AR, PAR
from parlab.decode.draft import greedy_draft
from parlab.decode.masking import mask_below
from parlab.decode.segments import find_segments
from parlab.model.encoded import Encoded
from parlab.model.families.espnet import search_class
from parlab.model.hybrid import HybridModel


def espnet_ar(model: HybridModel, encoded: Encoded, options: AR) -> Sequence[Any]:
    """The n-best of ESPnet's ``BatchBeamSearch`` on one utterance.

    Args:
        encoded: a batch of one.
        options: ``beam_size``, ``ctc_weight`` and ``maxlenratio`` count.
    """
    special, weight = model.special, options.ctc_weight
    scorers: dict[str, Any] = {"decoder": model.decoder}
    if weight > 0:
        scorers["ctc"] = search_class("ctc_prefix")(ctc=model.ctc, eos=special.eos)
    search = search_class("beam")(
        beam_size=options.beam_size,
        weights={"decoder": 1 - weight, "ctc": weight},
        scorers=scorers,
        sos=special.sos,
        eos=special.eos,
        vocab_size=model.vocab_size,
        token_list=model.token_list,
        pre_beam_score_key="full",
    )
    return search(encoded.states[0], maxlenratio=options.maxlenratio, minlenratio=0.0)


def espnet_par(model: HybridModel, encoded: Encoded, options: PAR) -> list[tuple[int, ...]]:
    """The fills of ESPnet's ``PartiallyARBeamSearch`` on one utterance.

    The search is ESPnet's own. The driver around it is ours, without the defects of ESPnet's (its issue 6669): each segment
    gets its own context, adjacent masks are one segment, ``max_mask_parallel`` holds for each utterance anew, and no batch
    of segments is lost.

    Args:
        encoded: a batch of one.
        options: ``threshold``, ``beam_size``, ``max_seq_len`` (a number) and ``max_mask_parallel`` count.
    """
    special = model.special
    # 1. The segments: a primer and a stop token each.
    draft = greedy_draft(encoded.posteriors, encoded.frames, special.blank)
    segments = find_segments(draft, mask_below(draft, options.threshold))
    tokens = draft.tokens[0].tolist()
    stops = segments.stops(special.eos).tolist()
    primers = [[special.sos, *tokens[:start]] for start in segments.start.tolist()]
    # 2. So many of them at a time.
    size = len(stops) if options.max_mask_parallel < 0 else options.max_mask_parallel
    fills: list[tuple[int, ...]] = []
    for begin in range(0, len(stops), max(size, 1)):
        search = _par_search(model, options.beam_size)
        chunk = range(begin, min(begin + size, len(stops)))
        for i in chunk:
            search.add_mask(primers[i], stops[i])
        for i, best in zip(chunk, search(encoded.states[0], options.max_seq_len), strict=True):
            found = best.yseq.tolist()[len(primers[i]) :]
            fills.append(tuple(found[:-1] if found and found[-1] == stops[i] else found))
    return fills


def _par_search(model: HybridModel, beam: int) -> Any:
    """A new search: ESPnet's keeps tensors of the last number of masks."""
    search = search_class("par_beam")(
        beam_size=beam,
        weights={"decoder": 1.0},
        scorers={"decoder": model.decoder},
        sos=model.special.sos,
        eos=model.special.eos,
        vocab_size=model.vocab_size + 1,  # it takes one off, for its mask token
        token_list=[*model.token_list, "<mask>"],
        pre_beam_score_key="full",
    )
    search.init_masks()
    return search
