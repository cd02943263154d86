"""Registries fill themselves from a folder, refuse two things of one name, and answer typing errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import SettingError, UnknownName
from foundation.registry import MOST_LISTED, Registry, nearest

MODULE = """
from {package} import things

@things.add
class {name}:
    name = {key!r}
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package with a registry and two modules that add to it."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from foundation.registry import Registry\nthings = Registry('thing', folder='shelf')\n"
    )
    for name in ("apple", "pear"):
        (folder / f"{name}.py").write_text(MODULE.format(package="shelf", name=name.title(), key=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for module in [name for name in sys.modules if name.partition(".")[0] == "shelf"]:
        del sys.modules[module]


def things() -> Registry[type]:
    from shelf import things  # type: ignore[import-not-found]  # written by the fixture

    registry: Registry[type] = things
    return registry


def test_a_folder_is_imported_when_something_is_first_asked_for(package: Path) -> None:
    registry = things()
    assert "shelf.apple" not in sys.modules
    assert list(registry) == ["apple", "pear"]
    assert "shelf.apple" in sys.modules
    assert len(registry) == 2
    assert "apple" in registry
    assert "fig" not in registry
    assert registry["pear"].__name__ == "Pear"


@pytest.mark.parametrize(
    "question", [len, list, lambda things: "apple" in things, lambda things: things["apple"]]
)
def test_every_question_fills_it(package: Path, question: object) -> None:
    assert callable(question)
    assert question(things())
    assert {"shelf.apple", "shelf.pear"} <= sys.modules.keys()


def test_a_new_file_is_enough(package: Path) -> None:
    (package / "fig.py").write_text(MODULE.format(package="shelf", name="Fig", key="fig"))
    assert list(things()) == ["apple", "fig", "pear"]


def test_a_module_that_is_executed_twice_is_no_second_thing(package: Path) -> None:
    first = things()["apple"]
    exec(compile((package / "apple.py").read_text(), "apple.py", "exec"), {"__name__": "shelf.apple"})
    assert things()["apple"] is not first
    assert len(things()) == 2


def test_two_things_of_one_name_are_refused() -> None:
    registry: Registry[type] = Registry("fruit")
    registry.add(type("Apple", (), {"name": "apple"}))
    with pytest.raises(ValueError, match=r"another fruit 'apple', of .*: choose another name"):
        registry.add(type("Impostor", (), {"name": "apple"}))
    assert registry["apple"].__name__ == "Apple"


def test_what_the_library_has_is_not_taken_by_a_file_that_comes_before_it(package: Path) -> None:
    """A user's file may be run before anybody has asked for what the registry's own folder holds."""
    registry = things()
    with pytest.raises(ValueError, match=r"another thing 'apple', of shelf\.apple: "):
        registry.add(type("Impostor", (), {"name": "apple"}))


def test_what_has_no_name_is_called_after_its_definition() -> None:
    registry: Registry[object] = Registry("function")

    @registry.add
    def peel() -> None: ...

    assert registry["peel"] is peel


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    registry: Registry[type] = Registry("fruit")
    with pytest.raises(UnknownName, match="unknown fruit 'apple'; known: none"):
        registry["apple"]
    for name in ("apple", "banana"):
        registry.add(type(name.title(), (), {"name": name}))
    with pytest.raises(UnknownName, match=r"unknown fruit 'aple'; did you mean 'apple'\?"):
        registry["aple"]
    with pytest.raises(SettingError, match="known: apple, banana"):
        registry["zzz"]
    assert registry.get("apple") is not None


names = st.text("abcdefgh_", min_size=1, max_size=9)


@given(st.sets(names, min_size=1), st.data())
def test_a_name_that_is_there_is_nearest_to_itself(choices: set[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(choices)))
    assert nearest(name, choices) == f"did you mean {name!r}?"


@given(st.sets(names, max_size=MOST_LISTED + 1))
def test_far_names_get_the_whole_list(choices: set[str]) -> None:
    assert nearest("ZZZZ", choices) == f"known: {', '.join(sorted(choices)) or 'none'}"


def test_of_many_names_the_first_are_listed_and_the_others_counted() -> None:
    many = [f"apple{number:02}" for number in range(MOST_LISTED + 5)]
    assert nearest("zzz", many) == f"known: {', '.join(many[:MOST_LISTED])} and 5 more"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("decode_mss", "did you mean 'decode_ms'?"),
        ("DECODE_MS", "did you mean 'decode_ms'?"),
        ("flops", "did you mean 'decode_flops' or 'prefill_flops'?"),  # parts of names
        ("decode_ms_p95", "did you mean 'decode_ms'?"),
        ("bytes", "did you mean 'decode_peak_bytes' or 'state_bytes'?"),
        ("box", "did you mean 'boks'?"),
        ("s", "known: "),
        ("steps", "known: "),  # no typing error of state_bytes
    ],
)
def test_near_is_a_typing_error_or_a_part(name: str, hint: str) -> None:
    names = ("boks", "decode_flops", "decode_ms", "decode_peak_bytes", "prefill_flops", "state_bytes")
    assert nearest(name, names).startswith(hint)


@given(st.lists(names, unique=True))
def test_names_are_in_order_whatever_the_order_of_files(choices: list[str]) -> None:
    registry: Registry[type] = Registry("thing")
    for name in choices:
        registry.add(type(name, (), {"name": name}))
    assert list(registry) == sorted(choices)
    assert len(registry) == len(choices)
