import json
import os
import pickle
import shutil
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators import corpus as module
from evaluators import reading
from evaluators.corpus import load_corpus, open_corpus
from evaluators.texts import MINIMUM_BYTES, VALIDATION_BYTES, Piece, Texts, is_text, size_of, split
from foundation.errors import DataError, FileError
from tests.limits import largest_file


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    return texts(tmp_path / "texts", 100)


def texts(root: Path, count: int, size: int = 1000) -> Path:
    for i in range(count):
        path = root / f"part{i % 3}" / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((f"file {i}, " * size)[:size])
    return root


def test_standard_library_is_the_default(cache):
    corpus = load_corpus(cache=cache)
    assert corpus.name.startswith("Python 3.")
    assert corpus.train_files > 10 * corpus.valid_files
    assert corpus.train_bytes > 10 * corpus.valid_bytes > 10 * VALIDATION_BYTES
    json_source = Path(sysconfig.get_path("stdlib"), "json", "encoder.py").read_bytes()
    both = corpus.train.tobytes() + b"\0" + corpus.valid.tobytes()
    assert json_source in both
    assert b"class TestCase" in both
    assert load_corpus(cache=cache) == corpus


def test_reference_points_are_bits_per_byte_of_compressors(cache, folder):
    corpus = load_corpus(folder, cache=cache)
    points = corpus.reference_points()
    assert list(points) == ["zlib", "bz2", "xz"]
    sample = corpus.valid.tobytes()
    assert points["zlib"] == 8 * len(zlib.compress(sample, 9)) / len(sample)
    assert all(0 < point < 8 for point in points.values())


def test_folder_is_divided_by_file_and_joined_with_zeros(cache, folder):
    corpus = load_corpus(folder, cache=cache)
    parts = [part.tobytes().split(b"\0") for part in (corpus.train, corpus.valid)]
    assert [len(part) for part in parts] == [corpus.train_files, corpus.valid_files]
    assert sorted(parts[0] + parts[1]) == sorted(p.read_bytes() for p in folder.rglob("*.txt"))
    assert corpus.valid_bytes >= VALIDATION_BYTES
    assert corpus.train.dtype == np.uint8


def test_split_is_stable_when_files_come(cache, tmp_path):
    few = load_corpus(texts(tmp_path / "a", 400), cache=cache)
    more = load_corpus(texts(tmp_path / "b", 600), cache=cache)
    assert set(few.valid.tobytes().split(b"\0")) <= set(more.valid.tobytes().split(b"\0"))
    assert set(few.train.tobytes().split(b"\0")) <= set(more.train.tobytes().split(b"\0"))


def test_digest_names_the_contents(cache, tmp_path, folder):
    corpus = load_corpus(folder, cache=cache)
    shutil.rmtree(cache)
    assert load_corpus(folder, cache=cache) == corpus
    elsewhere = shutil.copytree(folder, tmp_path / "copy")
    copied = load_corpus(elsewhere, cache=cache)
    assert (copied.digest, copied.folder, copied.name) == (corpus.digest, corpus.folder, "copy")
    (elsewhere / "part0" / "0.txt").write_text("other")
    assert load_corpus(elsewhere, cache=cache).digest != corpus.digest


def test_single_file_is_divided_by_position(cache, tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(bytes(range(32, 127)) * 5000)
    corpus = load_corpus(str(path), cache=cache)
    assert corpus.train.tobytes() + corpus.valid.tobytes() == path.read_bytes()
    assert corpus.valid_bytes == int(0.05 * path.stat().st_size)
    assert (corpus.train_files, corpus.valid_files) == (1, 1)


def test_uneven_files_are_divided_by_position(cache, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "large.txt").write_text("large " * 20_000)
    (tmp_path / "texts" / "small.txt").write_text("small")
    corpus = load_corpus(tmp_path / "texts", cache=cache)
    assert corpus.train_bytes > corpus.valid_bytes >= VALIDATION_BYTES


def test_what_is_not_text_is_left_out(cache, tmp_path, folder):
    plain = load_corpus(folder, cache=cache)
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0" * 100)
    (folder / "noise").write_bytes(bytes(range(128, 256)) * 10)
    (folder / ".hidden").write_text("hidden")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("hidden")
    (folder / "empty.txt").touch()
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    (folder / "loop").symlink_to(folder)
    corpus = load_corpus(folder, cache=cache)
    assert corpus.digest == plain.digest
    assert plain.skipped == 0


def test_skipped_files_are_counted(cache, folder):
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0" * 100)
    assert load_corpus(folder, cache=cache).skipped == 1


def test_what_cannot_be_read_is_not_text(tmp_path):
    assert not is_text(tmp_path)


def test_corpus_travels_and_is_reopened(cache, folder):
    corpus = load_corpus(folder, cache=cache)
    assert corpus.train.size == corpus.train_bytes
    assert len(pickle.dumps(corpus)) < 1000
    assert pickle.loads(pickle.dumps(corpus)) == open_corpus(corpus.folder) == corpus
    with pytest.raises(ValueError, match="read-only"):
        corpus.train[0] = 1


def test_damage_is_noticed_and_repaired(cache, folder):
    corpus = load_corpus(folder, cache=cache)
    meta = Path(corpus.folder, "meta.json")
    text = Path(corpus.folder, "valid.bin")
    text.write_bytes(b"x" + text.read_bytes()[1:])
    with pytest.raises(DataError, match=f"should be {corpus.digest}"):
        open_corpus(corpus.folder)
    assert load_corpus(folder, cache=cache) == corpus
    meta.write_text("{")
    with pytest.raises(DataError, match="holds no corpus"):
        open_corpus(corpus.folder)
    assert load_corpus(folder, cache=cache) == corpus
    text.unlink()
    with pytest.raises(DataError, match="holds no corpus"):
        open_corpus(corpus.folder)


def long_ago(folder: Path) -> Path:
    """Give all files a time at which nothing may change unnoticed."""
    for number, path in enumerate(sorted(folder.rglob("*.*"))):
        os.utime(path, (1e9 + number, 1e9 + number))
    return folder


def test_files_that_did_not_change_are_read_once(cache, folder, monkeypatch):
    (long_ago(folder) / "part0" / "0.bin").write_bytes(b"\0")
    os.utime(folder / "part0" / "0.bin", (1e9, 1e9))
    corpus = load_corpus(folder, cache=cache)
    monkeypatch.setattr(module, "texts_of", lambda files: pytest.fail("they are read again"))
    assert load_corpus(folder, cache=cache) == corpus
    assert corpus.skipped == 1


def test_what_changed_since_is_read_again(cache, folder):
    corpus = load_corpus(long_ago(folder), cache=cache)
    (folder / "part0" / "0.txt").write_text("x" * 1000)  # of the same size
    other = load_corpus(folder, cache=cache)
    assert other.digest != corpus.digest
    assert b"x" * 1000 in other.train.tobytes() + other.valid.tobytes()


def test_files_of_this_moment_may_still_change(cache, folder):
    load_corpus(folder, cache=cache)
    assert not (cache / module.REMEMBERED).exists()


@pytest.mark.parametrize("damage", ["{", "[]", '{"digest": 7}', '{"digest": "../..", "skipped": 0}'])
def test_a_damaged_note_is_made_again(cache, folder, damage):
    corpus = load_corpus(long_ago(folder), cache=cache)
    (note,) = (cache / module.REMEMBERED).iterdir()
    whole = note.read_text()
    note.write_text(damage)
    assert load_corpus(folder, cache=cache) == corpus
    assert note.read_text() == whole


def test_reading_is_told_and_what_is_no_text_counted(cache, folder, monkeypatch):
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0" * 100)
    monkeypatch.setattr(reading, "TOLD_EVERY", -1.0)
    told: list[str] = []
    with reading.told_while_reading(told.append):
        load_corpus(folder, cache=cache)
    assert told[0].startswith("reading texts: ")
    assert "reading texts: 100 %" in told
    assert told[-1] == "texts: 100 kB of text in 100 files; 1 file left out as no text"
    load_corpus(texts(folder.parent / "again", 100), cache=cache)  # nobody listens


def test_cache_comes_from_the_environment(monkeypatch, tmp_path, folder):
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "here"))
    assert Path(load_corpus(folder).folder).parent == tmp_path / "here"
    monkeypatch.delenv("NAS_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Path(load_corpus(folder).folder).parent == tmp_path / ".cache" / "nas"


def test_processes_may_load_at_once(cache, folder):
    code = f"from evaluators.corpus import load_corpus; load_corpus({str(folder)!r})"
    environment = {**os.environ, "NAS_CACHE": str(cache)}
    workers = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert [path.name for path in cache.iterdir()] == [load_corpus(folder, cache=cache).digest]


def test_a_slower_process_takes_what_the_quicker_one_left(cache, folder, monkeypatch):
    corpus = load_corpus(folder, cache=cache)
    answers = iter([False, True])
    monkeypatch.setattr(module, "is_corpus", lambda *_: next(answers))
    assert load_corpus(folder, cache=cache) == corpus


def test_missing_path(cache):
    with pytest.raises(DataError, match=r"^nowhere/x: no such file or folder$"):
        load_corpus("nowhere/x", cache=cache)


def test_empty_folder(cache, tmp_path):
    with pytest.raises(DataError, match="holds no files"):
        load_corpus(tmp_path, cache=cache)


def test_folder_without_text(cache, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="none of its 1 files is text"):
        load_corpus(tmp_path, cache=cache)


@pytest.mark.parametrize("contents", [b"text\0" * 10_000, bytes(range(128, 256)) * 1000])
def test_binary_file(cache, tmp_path, contents):
    path = tmp_path / "model.bin"
    path.write_bytes(contents)
    with pytest.raises(DataError, match=r"model\.bin is not text"):
        load_corpus(path, cache=cache)


def test_a_file_without_permission_is_not_called_binary(cache, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("words " * 1000)

    def refused(*arguments, **settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=r"text\.txt cannot be read: Permission denied"):
        load_corpus(tmp_path / "text.txt")


def test_too_small(cache, tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("hello")
    with pytest.raises(DataError, match=r"note\.txt is too small: 5 bytes of text, and at least 20,000"):
        load_corpus(path, cache=cache)


def test_python_without_sources(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "python311.zip"))
    with pytest.raises(DataError, match="give a text with data"):
        load_corpus(cache=cache)


def test_unwritable_cache(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot copy texts to the cache .*: .*; set NAS_CACHE to a folder"):
        load_corpus(folder, cache=tmp_path / "file")


def test_a_user_without_a_home_is_told_to_name_a_cache(folder, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("NAS_CACHE", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(FileError, match="there is no home for a cache: set NAS_CACHE to a folder"):
        load_corpus(folder)


def test_meta_is_plain_json(cache, folder):
    corpus = load_corpus(folder, cache=cache)
    meta = json.loads(Path(corpus.folder, "meta.json").read_text())
    assert meta["digest"] == Path(corpus.folder).name == corpus.digest


pieces = st.lists(st.integers(1, 30_000), min_size=1, max_size=12)


@given(pieces)
@settings(max_examples=200, deadline=None)
def test_split_loses_nothing_and_leaves_enough(sizes):
    made = tuple(Piece(f"{i}.txt", Path(f"{i}.txt"), 0, size) for i, size in enumerate(sizes))
    if sum(sizes) < MINIMUM_BYTES:
        return
    train, valid = split(Texts("made", made))
    assert size_of(train) + size_of(valid) == sum(sizes)
    assert size_of(valid) >= VALIDATION_BYTES
    assert 2 * size_of(train) >= sum(sizes)
    assert all(piece.size > 0 for piece in [*train, *valid])


def write(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_a_corpus_that_is_cached_is_not_copied_again(cache, tmp_path, monkeypatch):
    write(tmp_path / "text", {"a.txt": b"some text\n" * 3000})
    corpus = load_corpus(tmp_path / "text", cache=cache)

    def copied(*arguments: object) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr("evaluators.corpus._copied", copied)
    assert load_corpus(tmp_path / "text", cache=cache) == corpus


def test_a_disk_that_is_full_leaves_no_corpus(cache, tmp_path):
    write(tmp_path / "text", {"a.txt": b"some text\n" * 3000})
    for size in (100, 9_000, 21_000):
        with largest_file(size), pytest.raises(DataError, match=r"cannot copy text to .*File too large"):
            load_corpus(tmp_path / "text", cache=cache)
        assert os.listdir(cache) == []
    assert load_corpus(tmp_path / "text", cache=cache).train_bytes > 20_000


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (os.mkfifo, "is no file and no folder"),
        (lambda path: path.symlink_to("/dev/zero"), "is no file and no folder"),
        (lambda path: path.symlink_to(path), "Symlink loop|Too many levels"),
        (lambda path: None, "no such file or folder"),
    ],
)
def test_a_text_is_a_file_or_a_folder(cache, tmp_path, make, says):
    make(tmp_path / "text")
    with pytest.raises(DataError, match=says):
        load_corpus(tmp_path / "text", cache=cache)


@pytest.mark.parametrize(("data", "says"), [("", "is empty"), ("a\0b", "null"), ("a" * 300, "too long")])
def test_a_path_that_is_none_is_refused(cache, data, says):
    with pytest.raises(DataError, match=says):
        load_corpus(data, cache=cache)


def test_names_that_are_no_text_are_read(cache, tmp_path):
    folder = tmp_path / os.fsdecode(b"t\xe4xt")
    write(folder, {os.fsdecode(b"\xe4.txt"): b"some text\n" * 3000})
    corpus = load_corpus(folder, cache=cache)
    assert corpus.name == r"t\xe4xt"
    assert load_corpus(folder, cache=cache) == corpus
    assert open_corpus(corpus.folder) == corpus


@pytest.mark.parametrize(
    "change",
    [
        {"digest": 3},
        {"name": None},
        {"train_bytes": True},
        {"train_bytes": "1"},
        {"reference_points": []},
        {"reference_points": {"zlib": "much"}},
        {"folder": "/etc"},
        {"more": 1},
    ],
)
def test_a_cache_that_somebody_wrote_is_not_believed(cache, tmp_path, change):
    write(tmp_path / "text", {"a.txt": b"some text\n" * 3000})
    corpus = load_corpus(tmp_path / "text", cache=cache)
    meta = Path(corpus.folder, "meta.json")
    meta.write_text(json.dumps(json.loads(meta.read_text()) | change))
    with pytest.raises(DataError, match="holds no corpus"):
        open_corpus(corpus.folder)
    assert load_corpus(tmp_path / "text", cache=cache) == corpus  # made again


def test_a_cache_of_pipes_does_not_hang(cache, tmp_path):
    write(tmp_path / "text", {"a.txt": b"some text\n" * 3000})
    corpus = load_corpus(tmp_path / "text", cache=cache)
    for name in ("train.bin", "meta.json"):
        Path(corpus.folder, name).unlink()
        os.mkfifo(Path(corpus.folder, name))
        with pytest.raises(DataError, match="is a pipe"):
            open_corpus(corpus.folder)
        assert load_corpus(tmp_path / "text", cache=cache) == corpus
