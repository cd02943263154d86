"""Real kills in every phase: `kill -9` at a random moment, then going on to the end.

Nothing is lost, nothing doubled, nothing still called running, nothing left behind; all that measures no time
equals what an uninterrupted run ends with. `make test` kills once in each phase, `make faults` ten times.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hw_profiles.latency.table import LatencyTable
from nas.study.study import open_study
from nas.study.trial import TrialState
from tests.faults.phases import (
    PHASE_STEPS,
    RAY,
    Place,
    copy_corpus,
    leftovers,
    train_in_phases,
    whole_study,
    write_long_text,
)
from tests.forks import Fork, until
from tests.nas.test_crash import finish, records

pytestmark = pytest.mark.slow  # minutes: `make faults` runs them

LONG = ("supernet", "search by two Ray workers")
"""Phases whose processes take long to start or to end: `make faults` alone kills them."""

KILLS = [pytest.param(1, id="once"), pytest.param(10, id="ten-times", marks=pytest.mark.slow)]
MISSES = 10
"""How often a phase may be over before the kill, for each kill that falls into it."""


@dataclass(frozen=True)
class Phase:
    """A part of a study's life: when it has begun and when it is over, read off the store and the folder."""

    study: str
    step: str
    begun: Callable[[Place], bool]
    over: Callable[[Place], bool]
    seconds: float
    """Up to so long after the beginning it is killed."""
    words: tuple[str, ...] = ()
    """Of `nas resume`."""


def asked(place: Place, query: str) -> Any:
    """One value from the store, which a running process writes; asked often, so as cheap as can be."""
    try:
        with closing(sqlite3.connect(f"file:{place.store}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchone()[0]
    except sqlite3.OperationalError:  # not there yet
        return 0


def ended(place: Place, stage: str = "search") -> int:
    """Trials of a stage that have ended."""
    return int(asked(place, f"SELECT count(*) FROM trials WHERE stage = '{stage}' AND state != 'running'"))


def measured(place: Place) -> int:
    """Networks whose times are on record."""
    return int(asked(place, "SELECT count(*) FROM measurements WHERE name = 'decode_ms_measured'"))


def noted(place: Place, fact: str) -> bool:
    """Whether a fact is on record."""
    return fact in json.loads(asked(place, "SELECT config_json FROM studies") or "{}").get("facts", {})


def samples(place: Place) -> int:
    path = place.study("table") / "table.partial.json"
    return path.read_text().count("\n") if path.exists() else 0


def fronts(place: Place) -> int:
    study = open_study("search", place.store)
    front = len(study.predicted_front())
    study.store.close()
    return front


PHASES = {
    "latency table": Phase(
        "table", "profile", lambda at: samples(at) > 1, lambda at: noted(at, "tables"), 2.0
    ),
    "supernet": Phase(
        "trained",
        "train",
        lambda at: (at.study("trained") / "supernet" / "curve.json").exists(),
        lambda at: noted(at, "supernet"),
        1.0,
    ),
    "search by two Ray workers": Phase(
        "trained", "search", lambda at: ended(at) > 0, lambda at: ended(at) >= 12, 0.05, ("--workers", "2")
    ),
    "timing of the front": Phase(
        "search", "measure", lambda at: ended(at) >= 8, lambda at: measured(at) >= fronts(at), 2.0
    ),
    "finalists": Phase(
        "search",
        "finalists",
        lambda at: (at.study("search") / "scratch").exists(),
        lambda at: ended(at, "final") >= 4,
        0.5,
    ),
    "engine exact": Phase(
        "exact",
        "search",
        lambda at: (at.study("exact") / "exact").exists(),
        lambda at: noted(at, "prepared"),
        1.0,
    ),
    "engine darts": Phase(
        "darts",
        "search",
        lambda at: (at.study("darts") / "darts").exists(),
        lambda at: noted(at, "prepared"),
        3.0,
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """Uninterrupted studies by name, each run when it is first asked for."""
    folder, known = tmp_path_factory.mktemp("whole"), dict[str, Place]()

    def get(name: str) -> Place:
        if name not in known:
            finish(whole_study(folder / name, name))
            known[name] = Place(folder / name)
        return known[name]

    yield get
    shutil.rmtree(RAY, ignore_errors=True)


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in PHASES]
)
def test_a_study_killed_in_a_phase_ends_like_one_that_was_not(
    name: str,
    kills: int,
    whole: Callable[[str], Place],
    tmp_path: Path,
) -> None:
    phase, dice = PHASES[name], Random(f"{name}/{kills}")
    expected = whole(phase.study)
    done = 0
    for attempt in range(kills * MISSES):
        place = Place(tmp_path / str(attempt)).copy_of(expected.folder / "steps" / phase.step)
        while (kept := killed_in(phase, place, dice)) is not None:
            done += 1
            if done == kills or dice.random() < 0.5:  # else killed again as it goes on
                break
        orphans_of(place)
        finish(place.resume(phase.study))
        check_equal(place, expected, phase.study, kept or {})
        if done == kills:
            return
    raise AssertionError(f"{done} kills of {kills} fell into the phase in {kills * MISSES} attempts")


def killed_in(phase: Phase, place: Place, dice: Random) -> dict[str, Any] | None:
    """What the study held after a kill in the phase; None where the phase was over by then."""
    run = place.resume(phase.study, *phase.words)
    try:
        until(lambda: phase.begun(place) or phase.over(place), run)
    except AssertionError:
        assert run.wait().returncode == 0, run.stderr
        return None
    time.sleep(dice.random() * phase.seconds)
    killed = run.kill()
    assert killed.returncode in (0, -signal.SIGKILL), killed
    return None if killed.returncode == 0 or phase.over(place) else held(place, phase.study)


def held(place: Place, name: str) -> dict[str, Any]:
    """What is on record for good: trials that have ended, measurements, whole samples."""
    study = open_study(name, place.store)
    try:
        trials = [
            t
            for stage in ("search", "final")
            for t in study.trials(stage)
            if t.state is not TrialState.RUNNING
        ]
        partial = place.study(name) / "table.partial.json"
        lines = partial.read_text().splitlines(keepends=True)[1:] if partial.exists() else []
        return {
            "trials": {(t.stage, t.number): t for t in trials},
            "measurements": study.measurements(),
            "samples": [json.loads(line) for line in lines if line.endswith("\n")],
        }
    finally:
        study.store.close()


def orphans_of(place: Place) -> None:
    """No process of the killed one lives on, and nobody holds a lock."""
    end = time.monotonic() + 120  # the agents of a Ray that was killed look for it every few seconds
    while left := _processes_in(place):
        assert time.monotonic() < end, left
        time.sleep(0.1)
    for path in place.temporary.glob("nas-locks-*/*"):
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _processes_in(place: Place) -> list[str]:
    """Processes whose environment names the place."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            zombie = " Z " in (folder / "stat").read_text()
        except OSError:
            continue
        if str(place.temporary).encode() in environment and not zombie:
            found.append(f"{folder.name}: {words[:200]}")
    return found


def check_equal(place: Place, expected: Place, name: str, kept: dict[str, Any]) -> None:
    """The study is what it would have been, what it held is still there, and nothing else lies around."""
    study, whole_study = open_study(name, place.store), open_study(name, expected.store)
    try:
        if name == "table":
            assert len(study.trials()) == len(whole_study.trials())
            check_samples(place, kept.get("samples", []))
        else:
            assert records(place.store, name) == records(expected.store, name)
            assert without_times(study.facts) == without_times(whole_study.facts)
        assert not [t for stage in ("search", "final") for t in study.trials(stage) if t.finished is None]
        for trial in kept.get("trials", {}).values():
            assert trial in study.trials(trial.stage)
        measurements = study.measurements()
        assert measurements[: len(kept.get("measurements", []))] == kept.get("measurements", [])
        counted = Counter((m.digest, m.name) for m in measurements)
        assert counted == Counter((m.digest, m.name) for m in whole_study.measurements())
        assert set(counted.values()) <= {1}
        assert leftovers(place) == []
    finally:
        study.store.close()
        whole_study.store.close()


def check_samples(place: Place, kept: list[dict[str, Any]]) -> None:
    """Every sample of before the kill is in the table."""
    table = LatencyTable.load(place.study("table") / "table.json")
    entries = {
        "part/" + json.dumps(part.to_plain(), sort_keys=True): found for part, found in table.entries.items()
    }
    for entry in kept:
        if entry["key"].startswith("part/"):
            for reading, latency in entries[entry["key"]].items():
                ratios = [sample / table.provenance.reference_ms for sample in latency.samples_ms]
                assert ratios == pytest.approx(entry["value"][reading]["ratios"], rel=1e-3)


def without_times(facts: Any) -> Any:
    """Facts without what a clock told."""
    if isinstance(facts, dict):
        return {k: without_times(v) for k, v in facts.items() if k not in ("seconds", "prepared")}
    return facts


def test_a_kill_between_the_table_and_the_end_of_its_samples(
    whole: Callable[[str], Place], tmp_path: Path
) -> None:
    expected = whole("table")
    place = Place(tmp_path / "killed").copy_of(expected.folder / "steps" / "profile")
    samples_file = place.study("table") / "table.partial.json"
    shutil.copy(expected.study("table") / "table.json", place.study("table") / "table.json")
    samples_file.write_text("a killed process did not come to removing them\n")
    finish(place.resume("table"))
    assert records(place.store, "table") == records(expected.store, "table")
    assert leftovers(place) == []


@pytest.mark.parametrize("kills", KILLS)
def test_a_supernet_killed_in_every_phase_of_its_training(kills: int, tmp_path: Path) -> None:
    dice = Random(kills)
    finish(Fork(train_in_phases, str(tmp_path / "whole")))
    folder, last = tmp_path / "killed", 4 * PHASE_STEPS
    share = max(1, kills // 4)
    moments = sorted(
        phase * PHASE_STEPS + dice.randrange(1, PHASE_STEPS)
        for phase in (range(4) if kills > 1 else [dice.randrange(4)])
        for _ in range(share + (phase < kills % 4 if kills > 1 else 0))
    )
    assert len(moments) == kills
    for moment in moments:
        run = Fork(train_in_phases, str(folder))
        until(lambda moment=moment: saved(folder) >= moment, run)
        time.sleep(dice.random() * 0.05)
        assert run.kill().returncode == -signal.SIGKILL
        assert saved(folder) < last
    finish(Fork(train_in_phases, str(folder)))
    (last_one,), (expected,) = ((list(at.glob("*.safetensors"))) for at in (folder, tmp_path / "whole"))
    assert last_one.name == expected.name
    tensors, others = load_file(last_one), load_file(expected)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[key], others[key]) for key in tensors)
    curves = [json.loads((at / "curve.json").read_text())["loss"] for at in (folder, tmp_path / "whole")]
    assert curves[0] == curves[1]
    assert leftovers(Place(folder)) == []


def saved(folder: Path) -> int:
    """The step of the last checkpoint."""
    names = [path.stem.rpartition("-")[2] for path in folder.glob("*.safetensors")]
    return max(map(int, names), default=0)


@pytest.mark.parametrize("kills", KILLS)
def test_a_corpus_whose_copy_was_killed_leaves_nothing(kills: int, tmp_path: Path) -> None:
    write_long_text(tmp_path / "text", 24)
    arguments, dice = (str(tmp_path / "text"), str(tmp_path / "cache")), Random(kills)
    done = 0
    for _ in range(kills * MISSES):
        run = Fork(copy_corpus, *arguments)
        until(lambda: bool(list(tmp_path.glob("cache/.*.new/corpus/*.bin"))) or corpora(tmp_path) > 0, run)
        time.sleep(dice.random() * 0.1)
        run.kill()
        done += corpora(tmp_path) == 0
        assert len(list(tmp_path.glob("cache/.*"))) <= 1  # that of this kill
        if done == kills:
            break
        for folder in tmp_path.glob("cache/[0-9a-f]*"):
            folder.rename(tmp_path / f"whole-{time.monotonic_ns()}")
    assert done == kills
    finish(Fork(copy_corpus, *arguments))
    assert len(os.listdir(tmp_path / "cache")) == corpora(tmp_path) == 1


def corpora(folder: Path) -> int:
    return len(list(folder.glob("cache/[0-9a-f]*")))


@pytest.mark.parametrize("kills", KILLS)
def test_an_export_that_was_killed_is_made_whole(
    kills: int, whole: Callable[[str], Place], tmp_path: Path
) -> None:
    study, dice = whole("search"), Random(kills)
    words = ("export", "search", "0", "--store", str(study.store), "-o")
    finish(study.command(*words, str(tmp_path / "whole")))
    done = 0
    for attempt in range(kills * MISSES):
        out = tmp_path / str(attempt)
        run = study.command(*words, str(out))
        until(lambda out=out: out.exists() or bool(list(tmp_path.glob(".*.new"))), run)
        time.sleep(dice.random() * 0.005)
        run.kill()
        if not (out / "model.safetensors").exists():
            done += 1
            finish(study.command(*words, str(out), *(["--force"] if (out / "config.json").exists() else [])))
        assert files_of(out) == files_of(tmp_path / "whole")
        if done == kills:
            break
    assert done == kills
    assert leftovers(Place(tmp_path)) == []


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
