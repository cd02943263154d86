"""A corpus of tokens: made once, whole or not at all, and scored in bits per byte like one of bytes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.corpus import Corpus, load_corpus
from evaluators.tasks import language
from evaluators.tasks.language import LanguageModelling
from evaluators.tokens import token_corpus as module
from evaluators.tokens.preparation import Preparation, prepare
from evaluators.tokens.token_corpus import documents_in, load_data, open_data, prepared
from evaluators.tokens.tokenizer import Tokenizer
from foundation.errors import DataError, SettingError
from tests.evaluators.tokenizers_made import MADE
from tests.limits import largest_file

WORDS = ["the", " the", "cat", "\u20ac", "hat;\n", "\xe9t\xe9 ", "\t", "zoo "]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("text")
    dice = np.random.default_rng(0)
    for number in range(40):
        words = [WORDS[i] for i in dice.integers(len(WORDS), size=700)]
        (folder / f"{number}.txt").write_bytes(f"{number} {''.join(words)}".encode() + b"\xff")
    return load_corpus(folder, cache=folder / ".cache")


def made(text: Corpus, name: str, folder: Path) -> module.TokenCorpus:
    return prepared(text, Tokenizer(MADE[name]()), cache=folder)


@pytest.mark.parametrize("name", MADE)
def test_tokens_stand_for_the_text_of_both_parts(text: Corpus, name: str, tmp_path: Path) -> None:
    corpus = made(text, name, tmp_path)
    assert (corpus.train_bytes, corpus.valid_bytes) == (text.train_bytes, text.valid_bytes)
    assert corpus.train.dtype == corpus.valid.dtype == np.uint16
    counted = int(corpus.valid_sizes(np.arange(corpus.valid_tokens)).sum())
    if name == "word_piece":
        assert not corpus.lossless
        assert counted < text.valid_bytes
        return
    assert corpus.lossless
    assert counted == text.valid_bytes
    assert corpus.train_counted == text.train_bytes
    assert corpus.train_bytes_per_token == text.train_bytes / corpus.train.size
    separators = np.isin(corpus.train, Tokenizer(MADE[name]()).separator.ids).sum()
    assert separators == text.train_files - 1


def test_a_tokenizer_of_bytes_scores_what_bytes_score(text: Corpus, tmp_path: Path) -> None:
    corpus = made(text, "bytes", tmp_path)
    assert np.array_equal(corpus.train, text.train)
    plain, tokens = (LanguageModelling(each.folder, 16, 8) for each in (text, corpus))
    logits = torch.randn(8, 16, 256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain.validation()[0], tokens.validation()[0])
    assert torch.equal(plain.train_batch(3, 1, 4)[0], tokens.train_batch(3, 1, 4)[0])
    assert torch.equal(
        plain.judge(logits, plain.validation()[1]), tokens.judge(logits, tokens.validation()[1])
    )
    assert plain.nats == tokens.nats == math.log(2)
    assert plain.digest != tokens.digest


@pytest.mark.parametrize("name", ["byte_level", "sentence_piece"])
def test_scores_are_nats_over_the_bytes_of_the_scored_tokens(text: Corpus, name: str, tmp_path: Path) -> None:
    corpus = made(text, name, tmp_path)
    task, tokenizer = LanguageModelling(corpus.folder, 16, 20), Tokenizer(MADE[name]())
    tokens, targets = task.validation()
    logits = torch.randn(20, 16, corpus.vocab, generator=torch.Generator().manual_seed(0)).double()
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    scored = b"".join(tokenizer._pieces[token] for token in targets.flatten().tolist())
    separators = int(torch.isin(targets, torch.from_numpy(tokenizer.separator.ids)).sum())
    blanks = 0
    if name == "sentence_piece":  # a blank after each separator, or byte that is no text, is none of the text
        before = torch.cat((tokens[:, 0:1], targets), 1)[:, :-1].flatten().tolist()
        fresh = [b in (1, 3 + 0xFF) for b in before]
        blanks = sum(
            f and tokenizer._pieces[t].startswith(b" ") for f, t in zip(fresh, targets.flatten(), strict=True)
        )
    wanted = float(nats) / math.log(2) / (len(scored) + separators - blanks)
    assert float(task.judge(logits, targets).mean()) == pytest.approx(wanted, rel=1e-6)


def test_the_loss_of_a_training_is_in_bits_per_byte(text: Corpus, tmp_path: Path) -> None:
    corpus = made(text, "byte_level", tmp_path)
    task = LanguageModelling(corpus.folder, 16, 8)
    assert task.nats == pytest.approx(math.log(2) * text.train_bytes / corpus.train_tokens)
    assert task.vocab == 260
    about = task.about()
    assert about["vocab"] == 260
    assert about["bytes_per_token"] == corpus.train_bytes_per_token > 1


def test_large_vocabularies_have_wider_numbers() -> None:
    assert [module.kind_for(size) for size in (256, 2**16, 2**16 + 1)] == ["uint16", "uint16", "uint32"]


@pytest.mark.parametrize(("kind", "most"), [("uint8", 2**8), ("uint16", 2**16), ("uint32", 2**20)])
def test_tokens_on_a_gpu_are_the_same(kind: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(0).integers(most, size=5000).astype(kind)
    tokens[:100] = most - 1
    monkeypatch.setattr(language, "_opened", lambda folder: SimpleNamespace(train=tokens))
    monkeypatch.setattr(language, "on_cuda", lambda device: True)
    monkeypatch.setattr(language, "memory_of", lambda device: 2**40)
    task = LanguageModelling(f"of {kind}", 64, 8)
    for step in range(3):
        here, there = task.train_batch(step, 0, 16), task.train_batch_on("cpu", step, 0, 16)
        assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))
    assert here[0].max() >= most // 2  # numbers that are negative where they are read as signed


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_documents_are_cut_without_loss(documents: list[bytes]) -> None:
    whole = b"\0".join(documents)
    before, module.DOCUMENT_BYTES = module.DOCUMENT_BYTES, 16
    try:
        found = list(documents_in(np.frombuffer(whole, np.uint8)))
    finally:
        module.DOCUMENT_BYTES = before
    assert b"".join(piece + b"\0" * ends for piece, ends in found) == whole
    assert all(len(piece) <= 16 for piece, _ in found)


def test_no_document_is_cut_inside_a_character() -> None:
    text = "\u20ac".encode() * 50
    before, module.DOCUMENT_BYTES = module.DOCUMENT_BYTES, 16
    try:
        for piece, _ in documents_in(np.frombuffer(text, np.uint8)):
            piece.decode()
    finally:
        module.DOCUMENT_BYTES = before


def test_what_is_there_already_is_taken(
    text: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = made(text, "byte_level", tmp_path)
    monkeypatch.setattr(module, "_write", lambda *arguments: pytest.fail("it is made again"))
    assert made(text, "byte_level", tmp_path) == corpus == open_data(corpus.folder)
    monkeypatch.chdir(tmp_path)
    assert load_data(Path(corpus.folder).name) == corpus  # workers may be elsewhere


def test_damage_is_noticed_and_repaired(text: Corpus, tmp_path: Path) -> None:
    corpus = made(text, "byte_level", tmp_path)
    for name in module.PARTS:
        path = Path(corpus.folder, name)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DataError, match=r"is damaged: its digest"):
            open_data(corpus.folder)
        assert made(text, "byte_level", tmp_path) == corpus


@pytest.mark.parametrize(
    "change", [{"tokens": 250}, {"train_tokens": 1}, {"lossless": 1}, {"tokens": "x"}, {"train_counted": 0}]
)
def test_a_corpus_that_somebody_wrote_is_not_believed(
    text: Corpus, tmp_path: Path, change: dict[str, object]
) -> None:
    corpus = made(text, "byte_level", tmp_path)
    meta = Path(corpus.folder, "meta.json")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(DataError, match=r"is damaged|holds no corpus"):
        open_data(corpus.folder)


KILLED = """
import os, sys
from pathlib import Path
from evaluators.corpus import open_corpus
from evaluators.tokens import token_corpus as module
from evaluators.tokens.tokenizer import Tokenizer
count = int(sys.argv[1])
def flush(path):
    global count
    count -= 1
    if count < 0:
        os.kill(os.getpid(), 9)
module.flush = flush
text, tokenizer = open_corpus(sys.argv[2]), Tokenizer.read(sys.argv[3])
module.prepared(text, tokenizer, Path(sys.argv[4]))
"""


@pytest.mark.parametrize("after", [0, 1, 2])
def test_whoever_is_killed_begins_again(text: Corpus, tmp_path: Path, after: int) -> None:
    (tmp_path / "tokenizer.json").write_text(MADE["byte_level"]())
    words = [str(after), text.folder, str(tmp_path / "tokenizer.json"), str(tmp_path / "out" / "corpus")]
    assert subprocess.run([sys.executable, "-c", KILLED, *words]).returncode == -9
    assert (tmp_path / "out" / "corpus").exists() == (after == 2)
    corpus = prepared(text, Tokenizer(MADE["byte_level"]()), tmp_path / "out" / "corpus", cache=tmp_path)
    assert os.listdir(tmp_path / "out") == ["corpus"]
    assert corpus.digest == made(text, "byte_level", tmp_path / "other").digest


def test_a_disk_that_is_full_leaves_nothing(text: Corpus, tmp_path: Path) -> None:
    for limit in (100, 30_000):
        with largest_file(limit), pytest.raises(DataError, match=r"cannot write the tokens .*File too large"):
            prepared(text, Tokenizer(MADE["bytes"]()), tmp_path / "out", cache=tmp_path)
        assert os.listdir(tmp_path) == []


def test_another_folder_is_not_written_over(text: Corpus, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingError, match="not empty: choose another folder for a corpus"):
        prepared(text, Tokenizer(MADE["bytes"]()), tmp_path, cache=tmp_path)
    with pytest.raises(SettingError, match="not empty: choose another folder for a corpus"):
        prepare(str(Path(text.folder).parent.parent), Preparation(), tmp_path, cache=tmp_path / "cache")


def test_a_tokenizer_that_knows_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("zoo " * 20_000)
    with pytest.raises(DataError, match=r"knows nothing of text\.txt"):
        prepared(
            load_corpus(tmp_path / "text.txt", cache=tmp_path / "cache"),
            Tokenizer(MADE["word_piece"]()),
            cache=tmp_path / "cache",
        )


def test_a_tokenizer_is_trained_on_the_training_part_only(text: Corpus, tmp_path: Path) -> None:
    folder = Path(text.folder).parent.parent
    wanted = Preparation(tokenizer="train:300")
    corpus = prepare(str(folder), wanted, tmp_path / "out", cache=tmp_path / "cache")
    assert corpus.folder == str(tmp_path / "out")
    assert corpus.vocab <= 300
    train = [document.decode("utf-8", "ignore") for document, _ in documents_in(text.train)]
    assert corpus.tokenizer_json().decode() == Tokenizer.trained(train, 300).json
    assert prepare(str(folder), wanted, tmp_path / "out", cache=tmp_path / "cache") == corpus
    again = Preparation(tokenizer=str(tmp_path / "out"))
    assert prepare(str(folder), again, cache=tmp_path / "cache").digest == corpus.digest


def test_bytes_are_prepared_too(text: Corpus, tmp_path: Path) -> None:
    folder = Path(text.folder).parent.parent
    corpus = prepare(str(folder), Preparation(), tmp_path / "out", cache=tmp_path / "cache")
    assert corpus == load_data(tmp_path / "out")
    assert corpus.digest == text.digest
    assert prepare(str(folder), Preparation(), tmp_path / "out", cache=tmp_path / "cache") == corpus
    with pytest.raises(SettingError, match="prepared already"):
        prepare(str(tmp_path / "out"), Preparation(), cache=tmp_path / "cache")


@pytest.mark.parametrize(
    "given", ["train:", "train:256", "train:2000000", "train:x", "train:-5", "train:1e3"]
)
def test_sizes_out_of_range_are_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="must be a number from 257 to 1,048,576"):
        prepare(str(tmp_path), Preparation(tokenizer=given))
