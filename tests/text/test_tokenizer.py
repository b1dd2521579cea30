"""Tokenizers of the four types, made from texts, taken through pickles, and fed what they cannot spell."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parlab.errors import UserError
from parlab.text.tokenizer import Tokenizer, build_tokenizer, train_bpe

TEXTS = ["GO TO THE HOUSE", "STOP THERE", "THE OTHER HOUSE", "GO ON", "STOP IT NOW", "THEN GO HOME"]


def test_bpe_has_espnets_layout(tmp_path: Path) -> None:
    tokenizer = train_bpe(TEXTS, 20, tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    tokens = tokenizer.token_list
    assert tokens[:2] == ["<blank>", "<unk>"] and tokens[-1] == "<sos/eos>"
    assert len(tokens) == len(set(tokens)) == 20
    assert not {"<s>", "</s>"} & set(tokens)
    assert (folder / "tokens.txt").read_text(encoding="utf-8").split("\n") == [*tokens, ""]
    again = Tokenizer(tokens, "bpe", folder / "bpe.model")
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == text


def test_bpe_is_the_same_in_every_run(tmp_path: Path) -> None:
    made = [train_bpe(iter(TEXTS), 20, tmp_path / name) for name in "ab"]
    assert made[0].token_list == made[1].token_list
    assert made[0].encode(TEXTS[0]) == made[1].encode(TEXTS[0])


def test_bpe_keeps_symbols_whole(tmp_path: Path) -> None:
    tokenizer = train_bpe([*TEXTS, "GO [noise] ON"], 21, tmp_path, symbols=["[noise]"])
    assert "[noise]" in tokenizer.pieces("STOP [noise]")
    assert tokenizer.decode(tokenizer.encode("STOP [noise]")) == "STOP [noise]"


def test_char(tmp_path: Path) -> None:
    tokenizer = build_tokenizer(["BAB A", "C"], "char", tmp_path)
    assert tokenizer.token_list == ["<blank>", "<unk>", "A", "B", "<space>", "C", "<sos/eos>"]  # the frequent first
    assert tokenizer.encode("A BX") == [2, 4, 3, 1]
    assert tokenizer.decode([2, 4, 3, 1]) == "A B<unk>"
    assert tokenizer.unspellable("A BX") == {"X"}
    assert (tmp_path / "tokens.txt").read_text(encoding="utf-8").split() == tokenizer.token_list


def test_char_keeps_symbols_whole(tmp_path: Path) -> None:
    texts = ["A [noise] B", "AA <laugh>"]
    tokenizer = build_tokenizer(texts, "char", tmp_path, symbols=["[noise]", "<laugh>"])
    assert tokenizer.pieces("A[noise]B") == ["A", "[noise]", "B"]
    assert tokenizer.token_list[2:4] == ["[noise]", "<laugh>"]
    assert "[" not in tokenizer.token_list and not tokenizer.unspellable("A <laugh>")
    # A list that is read again knows them by their length.
    assert Tokenizer(tokenizer.token_list, "char").encode(texts[0]) == tokenizer.encode(texts[0])


@pytest.mark.parametrize("kind", ["word", "phn"])
def test_words_and_phonemes(kind: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(["AH B AH", "K"], kind, tmp_path)
    assert tokenizer.token_list == ["<blank>", "<unk>", "AH", "B", "K", "<sos/eos>"]
    assert tokenizer.encode("K  AH Z") == [4, 2, 1]
    assert tokenizer.decode([4, 2, 5]) == "K AH"


@pytest.mark.parametrize("kind", ["bpe", "char", "word", "phn"])
def test_no_text_asks_for_a_control_symbol(kind: str, tmp_path: Path) -> None:
    texts = [*TEXTS, "GO <blank> ON", "<sos/eos> STOP", "<unk> THERE"]
    tokenizer = build_tokenizer(texts, kind, tmp_path, vocab_size=30)
    assert len(tokenizer.token_list) == len(set(tokenizer.token_list))
    for text in texts:
        assert not {0, len(tokenizer.token_list) - 1} & set(tokenizer.encode(text))
    if kind in ("word", "phn"):
        assert tokenizer.unspellable("GO <blank>") == {"<blank>"}


def test_special_symbols_are_left_out_of_text() -> None:
    tokenizer = Tokenizer(["<blank>", "<unk>", "<space>", "a", "<en>", "<sos/eos>"], "char")
    assert tokenizer.decode([5, 4, 3, 2, 3, 0, 5]) == "a a"


def test_byte_tokens_become_characters(tmp_path: Path) -> None:
    made = train_bpe(TEXTS, 20, tmp_path)
    piece = next(token for token in made.token_list if token.startswith("\u2581") and len(token) > 1)
    tokens = ["<blank>", "<unk>", piece, "<0xC3>", "<0x89>", "<0xFF>", "<sos/eos>"]
    tokenizer = Tokenizer(tokens, "bpe", made.model_file)
    word = piece[1:]
    assert tokenizer.decode([2, 3, 4, 2]) == f"{word}\u00c9 {word}"
    assert tokenizer.decode([2, 5]) == f"{word}\ufffd"


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_through_a_pickle(kind: str, tmp_path: Path) -> None:
    tokenizer = build_tokenizer(TEXTS, kind, tmp_path, vocab_size=20)
    (tmp_path / "bpe.model").unlink(missing_ok=True)  # a loading process must not need the file
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(TEXTS[1]) == tokenizer.encode(TEXTS[1]) and again.decode(again.encode(TEXTS[1])) == TEXTS[1]


def test_from_bytes(tmp_path: Path) -> None:
    made = train_bpe(TEXTS, 20, tmp_path)
    again = Tokenizer(made.token_list, "bpe", model_bytes=(tmp_path / "bpe.model").read_bytes())
    assert again.encode(TEXTS[2]) == made.encode(TEXTS[2])


@given(st.lists(st.text("ABC", min_size=1, max_size=5), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_can_be_spelt_comes_back(words: list[str]) -> None:
    text = " ".join(words)
    tokenizer = Tokenizer(["<blank>", "<unk>", "<space>", "A", "B", "C", "<sos/eos>"], "char")
    assert tokenizer.decode(tokenizer.encode(text)) == text and not tokenizer.unspellable(text)


def test_no_unk_and_unknown() -> None:
    with pytest.raises(UserError, match="cannot spell 'ab'"):
        Tokenizer(["<blank>", "a", "<sos/eos>"], "char").encode("ab")


def test_bad_models(tmp_path: Path) -> None:
    (tmp_path / "bpe.model").write_bytes(b"no model")
    with pytest.raises(UserError, match=r"bpe\.model is no sentencepiece model"):
        Tokenizer(["<blank>"], "bpe", tmp_path / "bpe.model")
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer(["<blank>"], "bpe", tmp_path / "absent.model")
    with pytest.raises(UserError, match="checkpoint holds is no sentencepiece"):
        Tokenizer(["<blank>"], "bpe", model_bytes=b"no model")
    with pytest.raises(UserError, match="no sentencepiece model is named"):
        Tokenizer(["<blank>"], "bpe")
    with pytest.raises(UserError, match="did you mean 'word'"):
        Tokenizer(["<blank>"], "words")


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_no_text(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no text to make a tokenizer from"):
        build_tokenizer(["", "  "], kind, tmp_path)


def test_vocabulary_too_large(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot make 5000 tokens of 6 sentences .*choose another vocab_size"):
        train_bpe(TEXTS, 5000, tmp_path)


def test_real_transcripts_come_back(shared_data: Path, tmp_path: Path) -> None:
    from parlab.data.sources import read_data

    texts = [u.text or "" for u in read_data(shared_data / "an4" / "train.jsonl")]
    tokenizer = train_bpe(texts, 100, tmp_path)
    assert len(tokenizer.token_list) == 100
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


def test_a_model_tells_no_path(tmp_path: Path) -> None:
    """What is published with a model says nothing of the machine that made it."""
    train_bpe(TEXTS, 20, tmp_path)
    assert str(tmp_path).encode() not in (tmp_path / "bpe.model").read_bytes()
