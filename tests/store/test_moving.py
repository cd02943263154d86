"""Studies are copied and removed as a whole, whatever happens in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from foundation.errors import FileError, SettingError, StoreError, UnknownName
from nas.store import Measurement, Store
from nas.store.folders import MARK, working_in
from nas.store.moving import copy_study, merge_studies, move_study, remove_study
from nas.study.trial import Value
from tests.forks import Fork
from tests.store.made import complete, study_in, trial

FILES = {"supernet/weights": b"1" * 100, "supernet/about.json": b"{}", "report.html": b"<p>"}


def made(folder: Path, name: str = "small", *, trials: int = 3) -> Path:
    """A store in a folder with one study, its trials, a measurement and files."""
    with Store(folder / "s.db") as store:
        study = study_in(store, name)
        store.save(study, [*(complete(number) for number in range(trials)), trial(trials)])
        store.add_measurements(study, [Measurement("ab", "decode_ms", None, Value(1.0), 2.0)])
    for path, content in FILES.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_bytes(content)
    return folder / "s.db"


def contents(path: Path, name: str) -> tuple[object, ...]:
    """All that makes up a study, but for its name."""
    with Store(path, read_only=True) as store:
        study = store.study(name)
        files = {
            str(file.relative_to(path.parent / name)): file.read_bytes()
            for file in (path.parent / name).rglob("*")
            if file.is_file() and not file.name.startswith(".")
        }
        return study.config, study.created, store.trials(study), store.measurements(study), files


def test_a_copy_equals_its_original_and_is_independent(tmp_path: Path) -> None:
    path = made(tmp_path)
    with Store(path) as store:
        folder = copy_study(store, "small", store, "other")
        assert folder == tmp_path / "other"
        assert not (folder / MARK).exists()
    assert contents(path, "other") == contents(path, "small")
    with Store(path) as store:
        remove_study(store, "small")
        assert [study.name for study in store.studies()] == ["other"]
    assert not (tmp_path / "small").exists()
    assert contents(path, "other")[4] == FILES


def test_a_study_is_copied_into_another_store(tmp_path: Path) -> None:
    path = made(tmp_path / "a")
    there = made(tmp_path / "b", "another")
    with Store(path, read_only=True) as source, Store(there) as target:
        copy_study(source, "small", target, "small")
    assert contents(there, "small") == contents(path, "small")
    assert contents(there, "another")[4] == FILES


def test_an_unreadable_study_is_copied_and_removed_as_it_is(tmp_path: Path) -> None:
    path = made(tmp_path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE studies SET config_json = '{', name = 'a b'")
        database.execute("UPDATE trials SET values_json = x'ff' WHERE number = 1")
        database.commit()
    with Store(path) as store:
        with pytest.raises(StoreError, match="config is not JSON"):
            store.study("a b")
        with pytest.raises(SettingError, match="letters, digits"):
            copy_study(store, "a b", store, "new")
        remove_study(store, "a b")
        assert store.studies() == []


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with Store(path) as store:
        for name, error, message in (
            ("small", StoreError, "there is a study 'small'"),
            ("full", FileError, "belongs to no study"),
            ("../up", SettingError, "letters, digits"),
        ):
            with pytest.raises(error, match=message):
                copy_study(store, "small", store, name)
        with pytest.raises(UnknownName, match="did you mean 'small'"):
            copy_study(store, "smal", store, "new")
        with pytest.raises(UnknownName, match="no study 'full'"):
            remove_study(store, "full")
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["full", "small"]


def test_a_study_that_is_worked_on_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path)
    with Store(path) as store, working_in(tmp_path / "small"), working_in(tmp_path / "small"):
        with pytest.raises(StoreError, match="being worked on"):
            remove_study(store, "small")
        with pytest.raises(StoreError, match="being worked on"):
            copy_study(store, "small", store, "new")
    assert not (tmp_path / "new").exists()
    assert contents(path, "small")[4] == FILES


def test_a_study_is_moved_with_its_files(tmp_path: Path) -> None:
    path = made(tmp_path)
    whole = contents(path, "small")
    with Store(path) as store:
        with pytest.raises(StoreError, match="there is a study 'small'"):
            move_study(store, "small", "small")
        with pytest.raises(UnknownName, match="did you mean 'small'"):
            move_study(store, "smal", "new")
        with working_in(tmp_path / "small"), pytest.raises(StoreError, match="being worked on"):
            move_study(store, "small", "new")
        assert contents(path, "small") == whole
        move_study(store, "small", "new")
        assert [study.name for study in store.studies()] == ["new"]
    assert contents(path, "new") == whole
    assert not (tmp_path / "small").exists()
    assert not (tmp_path / "new" / MARK).exists()


def test_files_are_moved_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(tmp_path)
    whole = contents(path, "small")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Store(path) as store:
        move_study(store, "small", "new")
    assert contents(path, "new") == whole


def test_merged_studies_have_all_trials_under_new_numbers(tmp_path: Path) -> None:
    path = made(tmp_path, trials=3)
    made(tmp_path, "other", trials=2)
    (tmp_path / "other" / "report.html").write_bytes(b"<p>other")
    (tmp_path / "other" / "final").write_bytes(b"weights")
    with Store(path) as store:
        of_other = store.study("other")
        store.save(
            of_other,
            [complete(7, memo={"parents": [1, 2], "candidate": 1}, reused=1), complete(0, stage="final")],
        )
        before = contents(path, "small"), contents(path, "other")
        merge_studies(store, ["small", "other"], "new", {"plan": {"trials": 9}})
        new = store.study("new")
        assert new.config == {"plan": {"trials": 9}}
        merged = store.trials(new)
        assert [t.number for t in merged] == [0, 1, 2, 3, 4, 5, 6, 11]
        assert merged[:4] == store.trials(store.study("small"))
        assert [t.genotype for t in merged[4:]] == [t.genotype for t in store.trials(of_other)]
        assert (merged[-1].memo, merged[-1].reused) == ({"parents": [5, 6], "candidate": 5}, 5)
        assert [t.number for t in store.trials(new, "final")] == [0]
        assert len(store.measurements(new)) == 2
        assert store.trials_changed_since(new, 0)[1] == 9
    assert (tmp_path / "new" / "report.html").read_bytes() == FILES["report.html"]
    assert (tmp_path / "new" / "final").read_bytes() == b"weights"
    assert (contents(path, "small"), contents(path, "other")) == before


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    path = made(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / "small" / "link").symlink_to(tmp_path / "elsewhere")
    with Store(path) as store:
        copy_study(store, "small", store, "new")
        assert (tmp_path / "new" / "link").is_symlink()
        remove_study(store, "small")
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_what_cannot_be_copied_leaves_nothing(tmp_path: Path) -> None:
    path = made(tmp_path)
    os.mkfifo(tmp_path / "small" / "pipe")
    with Store(path) as store, pytest.raises(FileError, match="pipe"):
        copy_study(store, "small", store, "new")
    assert not (tmp_path / "new").exists()


def act_and_die(what: str, path: str, moment: int) -> None:
    """Copy or remove a study, killed at this event of Python's audit: files, folders, databases."""
    seen = 0

    def die_at(event: str, arguments: object) -> None:
        nonlocal seen
        seen += event.split(".")[0] in ("open", "os", "shutil", "sqlite3")
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    with Store(path) as store:
        sys.addaudithook(die_at)
        if what == "copy":
            copy_study(store, "small", store, "new")
        elif what == "move":
            move_study(store, "small", "new")
        elif what == "merge":
            merge_studies(store, ["small", "other"], "new", {"plan": {}})
        else:
            remove_study(store, "small")


@pytest.mark.parametrize("what", ["move", "merge"])
def test_a_kill_in_the_middle_loses_nothing(what: str, tmp_path: Path) -> None:
    path = made(tmp_path / "made")
    made(tmp_path / "made", "other")
    whole = contents(path, "small")
    killed, names = 0, list[set[str]]()
    for moment in [*range(1, 60, 2), 10_000]:
        home = tmp_path / str(moment)
        shutil.copytree(tmp_path / "made", home)
        killed += Fork(act_and_die, what, str(home / "s.db"), moment).wait().returncode == -signal.SIGKILL
        with Store(home / "s.db") as store:
            names.append({study.name for study in store.studies()} - {"other"})
            if what == "move":
                assert names[-1] in ({"small"}, {"new"})
                assert contents(home / "s.db", *names[-1]) == whole
                other = "new" if names[-1] == {"small"} else "small"
                study_in(store, other)  # the name is free, and nothing of old files is found under it
                assert not [file for file in (home / other).rglob("*") if file.is_file()]
            elif "new" in names[-1]:
                assert len(store.trials(store.study("new"))) == 8
                assert contents(home / "s.db", "new")[4] == FILES
            else:
                merge_studies(store, ["small", "other"], "new", {"plan": {}})
            assert what == "move" or contents(home / "s.db", "small") == whole
    assert killed >= 8
    assert {"small"} in names
    assert names[-1] == ({"new"} if what == "move" else {"small", "new"})


@pytest.mark.parametrize("what", ["copy", "remove"])
def test_a_kill_leaves_a_whole_study_or_none(what: str, tmp_path: Path) -> None:
    path = made(tmp_path / "made")
    whole = contents(path, "small")
    name, killed = {"copy": "new", "remove": "small"}[what], 0
    for moment in [*range(1, 40, 2), 10_000]:
        home = tmp_path / str(moment)
        shutil.copytree(tmp_path / "made", home)
        killed += Fork(act_and_die, what, str(home / "s.db"), moment).wait().returncode == -signal.SIGKILL
        with Store(home / "s.db") as store:
            left = store.holds(name)
        if left:
            assert contents(home / "s.db", name) == whole
        with Store(home / "s.db") as store:
            if not left:  # the name is free, and nothing of the old files is found under it
                study_in(store, name)
                assert not [file for file in (home / name).rglob("*") if file.is_file()]
            remove_study(store, name)
        assert not (home / name).exists()
    assert killed >= 8
