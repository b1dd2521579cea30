"""The interface of drafters, which write drafts from CTC's posteriors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import ClassVar

from parlab.decode.confidence.naming import plugin
from parlab.decode.draft import Draft, Posteriors

ROOM = "parlab.decode.drafters"
BEST_PATH = "best_path"


class Drafter(ABC):
    """A frozen dataclass whose fields are its options.

    Attributes:
        follows_best_path: whether a draft's tokens are the runs of the best path, so that measures of their frames can be told.
    """

    name: ClassVar[str]
    follows_best_path: ClassVar[bool] = False

    def check(self) -> None:  # noqa: B027  (most have no files)
        """Look for the files of the options before the first batch.

        Raises:
            UserError: one cannot be read.
        """

    @abstractmethod
    def draft(self, posteriors: Posteriors) -> Draft:
        """The drafts, on the host; an utterance's draft depends on no other utterance."""


@cache
def find_drafter(text: str) -> Drafter:
    """The drafter that ``text`` names, with its options, as ``prefix_beam:beam_size=5,lm=letters.arpa``.

    Raises:
        UserError: there is none of that name, or not with these options.
    """
    return plugin(ROOM, Drafter, text)  # type: ignore[type-abstract]
