"""Arguments of a wrong type, in every public function: a typed error that names them, and nothing is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from foundation.errors import NasError
from nas.study.study import Study
from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.short_conv import ShortConv

LAYER = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3)))
ROOT = Decoder(d_model=one_of(8, 16), layers=(LAYER,))


def searched(space: Any = None, **settings: Any) -> Study:
    given: dict[str, Any] = {"name": "a", "objectives": ["params"], "finalists": 0, "trials": 2, **settings}
    return nas.search(Space(ROOT) if space is None else space, **given)


SEARCHES: list[tuple[dict[str, Any], str]] = [
    *(({"name": name}, "a study's name is text, got") for name in (None, 5, b"a", ["a"], Path("a"))),
    *(({"objectives": given}, "objectives is a sequence") for given in (None, 5, {"params"}, {"params": 1})),
    *(({"store": store}, "a store is the path") for store in (None, 5, b"x", [], True)),
    ({"store": "x\0y"}, "no null character"),
    *(({"workers": workers}, "workers: count must be a whole number") for workers in (None, "2", 1.5, True)),
    ({"workers": -1}, "workers: count must be at least 0"),
    *(({"progress": progress}, "progress is a") for progress in (5, "x", print)),
    *(({"yes": yes}, "yes must be True or False") for yes in (None, "no", 5)),
    ({"settings": {5: 5}}, "no setting 5"),
    ({"recipe": {5: 5}}, "no setting 5"),
    ({"scenarios": [{5: 5}]}, "no setting 5"),
    *(({"strategy": given}, "strategy is a name") for given in (None, 5, int, ...)),
    *(({"space": space}, "a space is a Space or") for space in (5, b"x", 0.5, True)),
    ({"space": "lapptop"}, "unknown space 'lapptop'; did you mean 'laptop'"),
    ({"space": "nowhere.py"}, "nowhere.py: no such file"),
]


@pytest.mark.parametrize(("settings", "says"), SEARCHES, ids=repr)
def test_search(settings: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError, match=says):
        searched(**settings)
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.name != "studies"]
    assert {path.name for path in tmp_path.iterdir()} <= {"studies"}


CALLS: list[tuple[str, Callable[[Study], Any], str]] = [
    *(
        (f"open({n!r})", lambda study, n=n: nas.open(n, study.store.url), "no study")
        for n in (None, 5, [], b"a")
    ),
    *(
        (f"Store({place!r})", lambda study, place=place: nas.Store(place), "a store is the path")
        for place in (None, 5, [], b"a")
    ),
    *(
        (f"load({folder!r})", lambda study, folder=folder: nas.load(folder), "the folder for a model")
        for folder in (None, 5, [], b"a", "")
    ),
    *(
        (f"export to {folder!r}", lambda study, to=folder: nas.export(study, 0, to), "the folder for a model")
        for folder in (None, 5, [], b"a", "")
    ),
    *(
        (f"export of {what!r}", lambda study, what=what: nas.export(what, 0, "out"), "export takes a study")
        for what in (None, 5, "a")
    ),
    *(
        (f"spec({which!r})", lambda study, which=which: study.spec(which), r"write study.spec\(study.trial\(")
        for which in (None, 0, "00ac")
    ),
    *(
        (f"constraints={rules!r}", lambda study, rules=rules: Space(ROOT, constraints=rules), "is a sequence")
        for rules in (None, 5, "params<5", print)
    ),
    *(
        (f"a report to {to!r}", lambda study, to=to: study.report(to), "the file of a report is a path")
        for to in ("", 5, [])
    ),
    *(
        (f"validate({given})", lambda study, given=given: study.validate(**given), says)
        for given, says in (
            ({"workers": "2"}, "workers: count must be a whole number"),
            ({"progress": print}, "progress is a"),
            ({"yes": "no"}, "yes must be True or False"),
            ({"scratch_networks": "many"}, "scratch_networks must be a whole number"),
        )
    ),
    ("a space named 5", lambda study: Space(ROOT, name=5), "the name of a space is printable text"),  # type: ignore[arg-type]
    (
        "a rule that returns text",
        lambda study: searched(Space(ROOT, constraints=[lambda spec: "no"]), name="b"),  # type: ignore[list-item, return-value]
        "returned 'no': return True or False",
    ),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return searched(store=tmp_path_factory.mktemp("studies") / "studies.db")


@pytest.mark.parametrize(("call", "says"), [entry[1:] for entry in CALLS], ids=[entry[0] for entry in CALLS])
def test_calls(
    study: Study, call: Callable[[Study], Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NasError, match=says):
        call(study)
