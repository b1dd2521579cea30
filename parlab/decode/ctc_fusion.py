"""Fusion inside CTC's beam over frames: phrases and n-grams over CTC's tokens, a draft head's where there is one."""

from __future__ import annotations

from pathlib import Path

from parlab.decode.draft import Posteriors
from parlab.decode.fused.ngrams import ngram_automaton
from parlab.decode.fused.phrases import phrase_automaton, read_phrases
from parlab.decode.fusion import Fused, tokenizer_of
from parlab.decode.search.frames import NO_AUTOMATA, Automata
from parlab.errors import UserError
from parlab.model.encoded import Encoded
from parlab.model.hybrid import HybridModel


def phrase_automata(
    path: str | None, weight: float, model: HybridModel, encoded: Encoded, counted: bool = True
) -> Automata:
    """What a beam over CTC's frames counts: phrases, in the tokens of the draft head where there is one.

    Args:
        counted: whether the scores of its hypotheses count it.

    Raises:
        UserError: a file cannot be read, or does not fit CTC's vocabulary.
    """
    if path is None or weight == 0:
        return NO_AUTOMATA
    drafted = encoded.drafted
    tokenizer = tokenizer_of(encoded) if drafted is None else drafted.spelling.source
    phrases = phrase_automaton(path, tokenizer, len(tokenizer.token_list), encoded.device)
    return Automata((phrases,), (weight,), Posteriors.of(model, encoded).stop, counted)


def ctc_automata(options: Fused, model: HybridModel, encoded: Encoded) -> Automata:
    """What a beam over CTC's frames counts: phrases, and the n-grams of an ARPA or KenLM file.

    Raises:
        UserError: a file cannot be read, or does not fit CTC's vocabulary.
    """
    found = phrase_automata(options.phrases, options.phrase_weight, model, encoded)
    if options.lm is None or options.lm_weight == 0:
        return found
    _check_file(options.lm)
    given = Posteriors.of(model, encoded)
    ngrams = ngram_automaton(options.lm, given.tokens, given.stop, encoded.device)
    return Automata((*found.parts, ngrams), (*found.weights, options.lm_weight), given.stop)


def prepare_ctc_fusion(options: Fused) -> None:
    """Look for the files of the options before the first batch, which tells whose tokens the n-grams are over.

    Raises:
        UserError: one cannot be read, or is no such file.
    """
    if options.lm is not None and options.lm_weight != 0:
        _check_file(options.lm)
    if options.phrases is not None:
        read_phrases(options.phrases)


def _check_file(lm: str) -> None:
    if not Path(lm).expanduser().is_file():
        raise UserError(
            f"a beam over CTC's frames reads n-grams only, but {lm} is no file, expected an ARPA or KenLM file; correct lm, or decode with rescore"
        )
