"""`nas corpus` and a search with what it prepared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import nas
from evaluators.tokens.token_corpus import open_data
from foundation.errors import SettingError, SpaceError
from nas import cli
from search_spaces.blocks.attention import Attention
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model_files import read_tokenizer
from search_spaces.network.vocabulary import with_vocab
from tests.evaluators.tokenizers_made import byte_level


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(f"the {number} cats, the {number % 7} hats\n" for number in range(4000)))
    return path


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def space(vocab: int = 256) -> Space:
    layer = Layer(sequence_mixer=Attention(num_heads=one_of(1, 2), num_kv_heads=1, head_dim=8))
    return Space(Decoder(vocab=vocab, d_model=16, layers=(layer,)))


def search(vocab: str | int | None, name: str = "a") -> nas.Study:
    return nas.search(
        space(),
        name=name,
        store="s.db",
        objectives=["bits_per_byte", "params"],
        data="corpus",
        vocab=vocab,
        trials=1,
        train_steps=2,
        window=16,
        validation_windows=4,
        finalists=0,
        progress=False,
    )


def test_a_corpus_is_prepared_once_and_searched(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["corpus", str(text), "--tokenizer", "train:300", "-o", "corpus"]
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "of 300 tokens" in said
    assert "nas search SPACE --vocab data --data corpus" in said
    assert cli.run(words) == 0
    assert capsys.readouterr().out == said
    corpus = open_data("corpus")
    with pytest.raises(
        SpaceError, match=r"needs at least 300: write Decoder\(vocab=300, \.\.\.\), or have it"
    ):
        search(None)
    study = search("data")
    assert study.plan.vocab == 300
    [trial] = study.trials()
    assert study.spec(trial).vocab == 300
    facts = study.facts["corpus"]
    assert (facts["digest"], facts["vocab"]) == (corpus.digest, 300)
    assert (study.folder / "tokenizer.json").read_bytes() == corpus.tokenizer_json()
    nas.export(study, 0, "out")
    assert read_tokenizer("out") == corpus.tokenizer_json()
    again = nas.open("a", "s.db").resume(trials=2, progress=False)
    assert len(again.trials()) == 2
    assert search("data").plan.vocab == 300


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--tokenizer", "nowhere.json"], "nowhere.json: no such file"),
        (
            ["--tokenizer", "train:12"],
            "--tokenizer train:12: the size must be a number from 257 to 1,048,576",
        ),
        (["--tokenizer", "cut.json"], "cut.json is no tokenizer.json: "),
        (["--text-field", "body"], "--text-field body is for documents, and TEXT is text"),
        (["--documents", "0"], "--documents must be at least 1, got 0"),
        (["-o", "full"], "full is not empty: choose another folder for a corpus"),
        (["-o", ""], "a path must not be empty"),
    ],
)
def test_what_cannot_be_prepared_is_a_line(
    text: Path, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cut.json").write_text(byte_level()[:-30])
    Path("full").mkdir()
    Path("full", "notes").touch()
    assert cli.run(["corpus", str(text), *words]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert says.replace("TEXT", str(text)) in line


def test_documents_and_their_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"body": f"{number} " * 20}) for number in range(2000)]
    Path("a.jsonl").write_text("\n".join(rows))
    assert cli.run(["corpus", "a.jsonl"]) == 2
    assert (
        "line 1 has no field 'text'; it has body: name one with --text-field NAME" in capsys.readouterr().err
    )
    assert cli.run(["corpus", "a.jsonl", "--text-field", "body"]) == 0
    assert "as bytes" in capsys.readouterr().out


def test_spaces_of_other_vocabularies() -> None:
    assert with_vocab(space(), None).digest == space().digest
    assert with_vocab(space(), 8000).digest == space(8000).digest
    two = Space(one_of(*(Decoder(d_model=width, layers=space().root.layers) for width in (16, 32))))
    assert {option.vocab for option in with_vocab(two, 512).root.options} == {512}
    with pytest.raises(SettingError, match="vocab=300 needs a space of Decoder"):
        with_vocab(Space(Attention(num_heads=one_of(1, 2))), 300)
