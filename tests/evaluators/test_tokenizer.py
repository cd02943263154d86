"""Tokens stand for bytes of the text, whatever the tokenizer does with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers

from evaluators.tokens.tokenizer import Tokenizer
from evaluators.tokens.vocabulary import ByteVocabulary, Vocabulary
from foundation.errors import DataError, FileError
from tests.evaluators.tokenizers_made import MADE, byte_level

TOKENIZERS = {name: Tokenizer(make()) for name, make in MADE.items()}
NFC = Tokenizer(byte_level(normalizer=normalizers.NFC()))
PREFIXED = Tokenizer(byte_level(prefix_space=True))
LOSSLESS = ("bytes", "byte_level", "sentence_piece")


def sizes(tokenizer: Tokenizer, text: bytes) -> list[int]:
    [encoded] = tokenizer.encode([text])
    assert encoded.ids.shape == encoded.sizes.shape
    return encoded.sizes.tolist()


@pytest.mark.parametrize("name", LOSSLESS)
@given(st.one_of(st.text().map(str.encode), st.binary(), st.just(" the \xe9\u20ac the".encode())))
@settings(max_examples=60, deadline=None)
def test_tokens_stand_for_all_bytes_and_spell_them(name: str, text: bytes) -> None:
    tokenizer = TOKENIZERS[name]
    [encoded] = tokenizer.encode([text])
    assert int(encoded.sizes.sum()) == len(text)
    assert (encoded.sizes >= 0).all()
    assert encoded.lossless
    spelled = b"".join(tokenizer._pieces[token] for token in encoded.ids)
    if name != "sentence_piece":  # which puts blanks before texts
        assert spelled == text


@pytest.mark.parametrize("tokenizer", [NFC, PREFIXED, TOKENIZERS["word_piece"]])
@given(st.one_of(st.text().map(str.encode), st.binary()))
@settings(max_examples=40, deadline=None)
def test_what_is_not_given_back_is_never_counted_twice(tokenizer: Tokenizer, text: bytes) -> None:
    [encoded] = tokenizer.encode([text])
    assert (encoded.sizes >= 0).all()
    assert int(encoded.sizes.sum()) <= len(text)


def test_characters_of_several_tokens_are_counted_byte_by_byte() -> None:
    assert sizes(TOKENIZERS["byte_level"], "\u20ac the".encode()) == [1, 1, 1, 4]
    assert sizes(TOKENIZERS["sentence_piece"], "\u20ac the".encode()) == [0, 1, 1, 1, 4]
    assert sizes(TOKENIZERS["sentence_piece"], b"the the") == [3, 4]  # the first blank is none of the text's


def test_an_unknown_token_stands_for_nothing_and_dropped_blanks_for_what_follows() -> None:
    tokenizer = TOKENIZERS["word_piece"]
    [encoded] = tokenizer.encode([b"The  cats zebra.\n"])
    assert encoded.ids.tolist() == [1, 3, 2, 0, 5]
    assert encoded.sizes.tolist() == [3, 5, 1, 0, 2]
    assert not encoded.lossless


def test_a_normaliser_counts_the_bytes_of_the_text() -> None:
    decomposed = "e\u0301".encode()  # becomes one character of two bytes
    [encoded] = NFC.encode([decomposed])
    assert encoded.sizes.sum() == len(decomposed) == 3
    assert not encoded.lossless


def test_special_tokens_in_a_text_are_text() -> None:
    text = b"write <|endoftext|> here"
    [encoded] = TOKENIZERS["byte_level"].encode([text])
    assert TOKENIZERS["byte_level"].separator.ids[0] not in encoded.ids
    assert encoded.sizes.sum() == len(text)


@pytest.mark.parametrize(
    ("name", "ids"), [("bytes", [0]), ("byte_level", [259]), ("sentence_piece", [1]), ("word_piece", [4])]
)
def test_the_separator_stands_for_one_byte(name: str, ids: list[int]) -> None:
    separator = TOKENIZERS[name].separator
    assert separator.ids.tolist() == ids
    assert separator.sizes.sum() == 1


def test_a_tokenizer_that_is_trained_twice_is_the_same() -> None:
    texts = ["the cat sat on the mat\n" * 20, "the other cat\n" * 9]
    first, second = (Tokenizer.trained(texts, 300) for _ in range(2))
    assert (first.json, first.digest) == (second.json, second.digest)
    assert 257 < first.size <= 300
    assert sum(sizes(first, b"the mat\xff")) == 8


def test_truncation_padding_and_dropout_of_a_file_are_not_for_corpora() -> None:
    plain = json.loads(byte_level())
    plain["truncation"] = {"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    plain["model"]["dropout"] = 0.5
    odd, usual = Tokenizer(json.dumps(plain)), TOKENIZERS["byte_level"]
    for _ in range(5):
        assert odd.encode([b"the the the"])[0].ids.tolist() == usual.encode([b"the the the"])[0].ids.tolist()


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[]", '{"version": "1.0"}', "[" * 100_000, "\0"])
def test_what_is_no_tokenizer_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(FileError, match=r"tokenizer\.json is no tokenizer\.json: .") as refused:
        Tokenizer.read(path)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_whose_parts_do_not_fit_is_refused_when_it_reads() -> None:
    plain = json.loads(MADE["word_piece"]())
    del plain["model"]["vocab"]["[UNK]"]
    plain["added_tokens"] = []
    with pytest.raises(DataError, match=r"^the tokenizer cannot read a text: .*UNK"):
        Tokenizer(json.dumps(plain)).encode([b"zebra"])


def test_a_file_that_the_library_gives_up_on_is_refused() -> None:
    plain = json.loads(MADE["sentence_piece"]())
    plain["post_processor"]["special_tokens"]["<s>"]["id"] = "other"
    plain["post_processor"]["special_tokens"] = {"other": plain["post_processor"]["special_tokens"]["<s>"]}
    with pytest.raises((DataError, FileError), match=r"^the tokenizer (cannot read a text|is no tokenizer)"):
        Tokenizer(json.dumps(plain)).prompt(b"the")


@pytest.mark.parametrize("cut", [1, 10, 100, 1000])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(byte_level()[:-cut])
    with pytest.raises(FileError, match=r"is no tokenizer\.json"):
        Tokenizer.read(path)


VOCABULARIES: dict[str, Vocabulary] = {"plain bytes": ByteVocabulary()} | {n: TOKENIZERS[n] for n in LOSSLESS}


@pytest.mark.parametrize("name", VOCABULARIES)
@given(st.text(min_size=1), st.text())
@settings(max_examples=60, deadline=None)
def test_what_follows_a_prompt_is_streamed_as_text(name: str, before: str, after: str) -> None:
    vocabulary = VOCABULARIES[name]
    prompt, whole = vocabulary.prompt(before.encode()), vocabulary.prompt((before + after).encode())
    if whole[: len(prompt)] != prompt:
        return  # the last word of the prompt goes on
    stream = vocabulary.stream(prompt)
    told = [stream.push(token) for token in whole[len(prompt) :]]
    assert "".join(told) + stream.end() == after


def test_half_a_character_waits_and_is_told_at_the_end() -> None:
    for vocabulary in VOCABULARIES.values():
        stream = vocabulary.stream(vocabulary.prompt(b"x"))
        euro = vocabulary.prompt("x\u20ac".encode())[-3:]
        assert [stream.push(token) for token in euro] == ["", "", "\u20ac"]
        assert [stream.push(token) for token in euro[:2]] == ["", ""]
        assert set(stream.end()) == {"\ufffd"}


def test_a_prompt_begins_as_the_tokenizer_begins_documents() -> None:
    assert TOKENIZERS["sentence_piece"].prompt(b"the")[:2] == [1, np.int64(266)]
    assert 259 not in TOKENIZERS["byte_level"].prompt(b"the")
