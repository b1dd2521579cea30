"""Checks that data is fit for training, made before the training begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from parlab.data.audio import audio_seconds
from parlab.data.utterance import Utterance
from parlab.errors import UserError
from parlab.text.tokenizer import Tokenizer
from parlab.types import Failure

MOST_BROKEN = 0.5  # share of the utterances; beyond it the data is wrong, and not a file


def without_broken(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Failure]]:
    """Utterances with durations, and those whose file is empty or, where the duration is unknown, has no header.

    Raises:
        UserError: a file of unknown duration is missing.
    """
    kept: list[Utterance] = []
    failed: list[Failure] = []
    for utterance in utterances:
        try:
            if utterance.audio.is_file() and utterance.audio.stat().st_size == 0:
                raise UserError(f"the audio file {utterance.audio} is empty (0 bytes), expected audio; copy it again")
            kept += with_durations([utterance])
        except UserError as error:
            if not utterance.audio.is_file():
                raise
            failed.append(Failure(utterance.id, str(error)))
    return kept, failed


def check_headers(utterances: Sequence[Utterance]) -> list[Failure]:
    """Utterances whose file has no readable header, or is shorter than its manifest says."""
    failed = []
    for utterance in utterances:
        try:
            check_duration(utterance, max(audio_seconds(utterance.audio) - utterance.start, 0.0))
        except UserError as error:
            failed.append(Failure(utterance.id, str(error)))
    return failed


def refuse_many_broken(broken: float, total: float, which: str, first: str) -> None:
    """Refuse data most of which is broken.

    Args:
        which: the utterances that are meant, as "training utterances of an epoch".
        first: what is wrong with one of them.

    Raises:
        UserError: more than ``MOST_BROKEN`` of ``total`` are.
    """
    if broken > MOST_BROKEN * total:
        raise UserError(
            f"{broken:.0f} of {total:.0f} {which} are broken, expected at most {MOST_BROKEN:.0%}, the first because "
            f"{first}; correct the data"
        )


def emittable(tokens: Sequence[int], frames: int) -> bool:
    """Whether CTC can emit the tokens in so many frames: one each, and a blank between equal neighbours."""
    return len(tokens) + sum(a == b for a, b in pairwise(tokens)) <= frames


def usable(utterances: Sequence[Utterance], which: str, skip: bool) -> tuple[list[Utterance], list[Failure]]:
    """Utterances with durations, and those that were left out because they are broken.

    Args:
        which: the utterances that are meant, as for ``refuse_many_broken``.
        skip: leave broken ones out; else they are refused.

    Raises:
        UserError: a file is missing, unreadable where ``skip`` is not set, or most of them are broken.
    """
    failed: list[Failure] = []
    kept = list(utterances)
    if skip:
        kept, failed = without_broken(utterances)
        if failed:
            refuse_many_broken(len(failed), len(utterances), which, failed[0].reason)
    return with_durations(kept), failed


_READERS = 8  # threads that read headers: they wait for the disk


def with_durations(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Fill in missing durations from the files' headers.

    Raises:
        UserError: such a file is missing or unreadable.
    """
    return [
        u if u.duration is not None else dataclasses.replace(u, duration=max(audio_seconds(u.audio) - u.start, 0.0))
        for u in utterances
    ]


def with_known_durations(utterances: Sequence[Utterance]) -> list[Utterance]:
    """Fill in the durations that the files' headers know; a file that cannot be read keeps none, and fails when loaded."""
    missing = [u for u in utterances if u.duration is None]
    if not missing:
        return list(utterances)
    with ThreadPoolExecutor(_READERS) as pool:
        found = dict(zip((u.id for u in missing), pool.map(_duration, missing), strict=True))
    return [u if u.duration is not None else dataclasses.replace(u, duration=found[u.id]) for u in utterances]


def _duration(utterance: Utterance) -> float | None:
    try:
        return max(audio_seconds(utterance.audio) - utterance.start, 0.0)
    except UserError:
        return None


def check_some_audio(utterances: Sequence[Utterance]) -> None:
    """Refuse data of which no audio file exists; one that is missing fails alone.

    Raises:
        UserError: all are missing.
    """
    if not any(u.audio.is_file() for u in utterances):
        raise UserError(
            f"none of the {len(utterances)} audio files exists, the first is {utterances[0].audio} of "
            f"'{utterances[0].id}', expected audio; correct the paths of the data"
        )


def check_duration(utterance: Utterance, seconds: float) -> None:
    """Refuse audio that is shorter than its manifest says; rounded durations are fine.

    Raises:
        UserError: more than half a second and 2 % are missing.
    """
    wanted = utterance.duration or 0.0
    if seconds < wanted - 0.5 - 0.02 * wanted:
        raise UserError(
            f"the audio file {utterance.audio} is truncated: {seconds:.2f} s are there, expected {wanted:.2f} s as its "
            "manifest says; copy it again or correct the duration"
        )


def check_training_data(
    utterances: Sequence[Utterance], tokenizer: Tokenizer | None, min_seconds: float = 0.1, max_seconds: float = 30.0
) -> list[Utterance]:
    """Utterances fit for training, within the limits of duration.

    Damage inside a file is found only when it is loaded.

    Raises:
        UserError: a reference is missing or empty, the tokenizer cannot spell one, an audio file is missing or empty,
            or nothing is left.
    """
    kept = []
    for utterance in utterances:
        if utterance.text is None or not utterance.text.strip():
            raise UserError(
                f"the utterance '{utterance.id}' has no reference, which training needs; add one or leave it out"
            )
        if tokenizer is not None and (missing := tokenizer.unspellable(utterance.text)):
            raise UserError(
                f"the tokenizer cannot spell {sorted(missing)[0]!r} in the reference of '{utterance.id}' "
                f"({utterance.text[:60]!r}); normalise the text or train another tokenizer"
            )
        seconds = min_seconds if utterance.duration is None else utterance.duration
        if min_seconds <= seconds <= max_seconds:
            kept.append(utterance)
    if not kept:
        raise UserError(
            f"no utterance lasts from {min_seconds} to {max_seconds} s, expected at least one; change the limits"
        )
    absent = [u for u in kept if not u.audio.is_file() or u.audio.stat().st_size == 0]
    if absent:
        raise UserError(
            f"{len(absent)} of {len(kept)} audio files are missing or empty, the first is {absent[0].audio} of "
            f"'{absent[0].id}', expected all; correct the paths or leave them out"
        )
    return kept
