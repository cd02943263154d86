"""Documents of Parquet and JSON lines become a corpus; what is no document is refused in a line."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from evaluators.corpus import Corpus
from evaluators.tokens.documents import read_corpus
from evaluators.tokens.sources.base import Source, sources
from foundation.errors import DataError, NasError, SettingError

TEXTS = [f"document {number} says {'word ' * (number % 50)}\u20ac\n" for number in range(900)]


def documents(corpus: Corpus) -> list[str]:
    parts = [part.tobytes().decode().split("\0") for part in (corpus.train, corpus.valid)]
    return sorted(parts[0] + parts[1])


def write_lines(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    parquet.write_table(arrow.table(columns), path)
    return path


def test_both_kinds_give_the_same_corpus(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "a.jsonl", [{"text": text, "n": 1} for text in TEXTS])
    table = write_parquet(tmp_path / "b.parquet", {"n": list(range(len(TEXTS))), "text": [*TEXTS]})
    first, second = (read_corpus(str(path), cache=tmp_path / "cache") for path in (lines, table))
    assert documents(first) == sorted(TEXTS)
    assert first.digest == second.digest
    assert first.name == "a.jsonl"


def test_documents_stay_on_their_side_and_equal_ones_together(tmp_path: Path) -> None:
    texts = [text + 500 * "." for text in TEXTS]  # of enough text for both parts
    few = write_lines(tmp_path / "few.jsonl", [{"text": text} for text in texts])
    rows = [{"text": text} for text in [*reversed(texts), *(f"more {text}" for text in texts), *texts]]
    more = write_lines(tmp_path / "more.jsonl", rows)
    first, second = (read_corpus(str(path), cache=tmp_path / "cache") for path in (few, more))
    assert set(first.valid.tobytes().split(b"\0")) <= set(second.valid.tobytes().split(b"\0"))
    train, valid = (set(part.tobytes().split(b"\0")) for part in (second.train, second.valid))
    assert not train & valid


def test_a_folder_of_shards_is_read_whole_and_a_field_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    write_parquet(folder / "0.parquet", {"content": [*TEXTS[:300], None, ""]})
    write_lines(folder / "1.JSONL", [{"content": text} for text in TEXTS[300:]] + [{"content": None}])
    (folder / "README.md").write_text("no document")
    corpus = read_corpus(str(folder), field="content", cache=tmp_path / "cache")
    assert documents(corpus) == sorted(TEXTS)
    assert corpus.skipped == 1
    part = read_corpus(str(folder), field="content", most=500, cache=tmp_path / "cache")
    assert documents(part) == sorted(TEXTS[:500])


def test_zero_bytes_and_halves_of_characters_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": text}) for text in TEXTS]
    path.write_text("\n\n".join([*rows, '{"text": "a\\u0000b"}']))
    assert "ab" in documents(read_corpus(str(path), cache=tmp_path / "cache"))


WRONG = {
    "no field": (
        b'{"content": "x", "id": 3}',
        r"line 1 has no field 'text'; it has content and id: name one",
    ),
    "no text": (b'{"text": 3}', r"line 1: the field 'text' is not text: int"),
    "no object": (b'["text"]', r"line 1 is not an object with a field 'text'"),
    "cut": (b'{"text": "x"}\n{"text": "x', r"line 2 is damaged or not JSON"),
    "no UTF-8": (b'{"text": "\xff"}', r"line 1 is damaged or not JSON"),
    "deep": (b'{"text": ' + b"[" * 10_000, r"line 1 is damaged or not JSON: nested deeper"),
    "empty": (b"", r"is too small: 0 bytes"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_lines_that_are_no_documents_are_refused(tmp_path: Path, kind: str) -> None:
    content, says = WRONG[kind]
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=says) as refused:
        read_corpus(str(tmp_path / "a.jsonl"), cache=tmp_path / "cache")
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_tables_that_hold_no_text_are_refused(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "a.parquet", {"content": ["x"], "n": [1]})
    with pytest.raises(
        DataError, match=r"a\.parquet has no field 'text'; it has content and n: name one with"
    ):
        read_corpus(str(table), cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"the field 'n' is not text: int64"):
        read_corpus(str(table), field="n", cache=tmp_path / "cache")
    table.write_bytes(table.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read: "):
        read_corpus(str(table), cache=tmp_path / "cache")


def test_a_field_is_for_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text " * 10_000)
    with pytest.raises(SettingError, match=r"text_field='body' is for documents, and .*a\.txt is text"):
        read_corpus(str(tmp_path / "a.txt"), field="body", cache=tmp_path / "cache")
    assert read_corpus(str(tmp_path / "a.txt"), cache=tmp_path / "cache").train_files == 1


@pytest.mark.parametrize("failure", [ConnectionError("no route\nto host"), KeyError("split"), ValueError()])
def test_a_hub_that_cannot_be_reached_is_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def load_dataset(*names: object, **settings: object) -> object:
        raise failure

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "datasets", library)
    with pytest.raises(DataError, match="hf:org/name cannot be read from the hub: ") as refused:
        read_corpus("hf:org/name", cache=tmp_path / "cache")
    assert "\n" not in str(refused.value)


def test_a_data_set_of_the_hub_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*names: object, **settings: object) -> object:
        asked.append((names, settings))
        return ({"text": text} for text in TEXTS)

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "datasets", library)
    corpus = read_corpus("hf:org/name:small", most=800, cache=tmp_path / "cache")
    assert documents(corpus) == sorted(TEXTS[:800])
    assert asked == [(("org/name", "small"), {"split": "train", "streaming": True})]


@pytest.mark.parametrize(("what", "library"), [("hf:a/b", "datasets"), ("a.parquet", "pyarrow")])
def test_a_library_that_is_missing_is_an_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, library: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    (tmp_path / "a.parquet").touch()
    named = what if what.startswith("hf:") else str(tmp_path / what)
    with pytest.raises(SettingError, match=rf"needs {library}: pip install 'nas\[(hf|datasets)\]'"):
        read_corpus(named, cache=tmp_path / "cache")


@pytest.mark.parametrize("kind", sources)
def test_a_source_says_what_it_reads_and_refuses_what_is_not_there(kind: str, tmp_path: Path) -> None:
    source: type[Source] = sources[kind]
    assert bool(source.suffixes) != bool(source.prefix)
    assert source.__doc__
    with pytest.raises(NasError):
        next(source.documents(str(tmp_path / "nothing"), "text"))
