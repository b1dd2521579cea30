"""Whether a token list and a sentencepiece model belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from parlab.errors import UserError

_SYMBOL = re.compile(r"<.+>|\[.+\]|\{.+\}")
_FOREIGN_SHARE = 0.1  # of the tokens; a list with some words added to the pieces is fine
_OUTER = ("<blank>", "<sos/eos>")  # first and last token of ESPnet's ASR lists


def check_pieces(tokens: Sequence[str], pieces: Sequence[str], model: str) -> None:
    """Refuse a token list that surely is not that of a sentencepiece model.

    ESPnet writes ``<blank>``, ``<unk>``, the pieces in the model's order, ``<sos/eos>``; older recipes sort the pieces, and
    leave out those that the training data lack. S2T lists have symbols besides.

    Args:
        tokens: the token list.
        pieces: of the sentencepiece model, in its order.
        model: its name, for errors.

    Raises:
        UserError: more than a tenth of the tokens that are no symbols are no pieces, or the order is neither.
    """
    order = {piece: i for i, piece in enumerate(pieces)}
    spoken = [token for token in tokens if not _SYMBOL.fullmatch(token)]
    foreign = [token for token in spoken if token not in order]
    if not spoken or len(foreign) > _FOREIGN_SHARE * len(spoken):
        some = ", ".join(repr(token) for token in foreign[:3])
        raise UserError(
            f"the token list is not that of {model}: {len(foreign)} of its {len(spoken)} tokens are no pieces of it"
            f"{f' ({some})' if some else ''}; take both from the same model"
        )
    if (tokens[0], tokens[-1]) != _OUTER:
        return
    known = [token for token in spoken if token in order]
    if _rises([order[token] for token in known]) or _rises(known):
        return
    wrong = next(b for a, b in pairwise(known) if order[a] >= order[b])
    raise UserError(
        f"the token list has the pieces of {model} in another order (from {wrong!r} on), expected the model's; take both "
        "from the same model, and leave the list as it is"
    )


def _rises(values: Sequence[int] | Sequence[str]) -> bool:
    return all(a < b for a, b in pairwise(values))  # type: ignore[operator]
