"""Checkpoints and folders of supernets that are damaged, foreign, or no such files."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evaluators.training.checkpoints import content_hash
from nas.study.study import open_study
from nas.study.trial import TrialState
from tests.faults.campaign import Case
from tests.faults.situations import SMALL, TINY_SPACE, changed, run_in, trained_study, trained_supernet
from tests.forks import Ended

Harm = Callable[[Path], None]


def flipped(place: float) -> Harm:
    """One other bit at this share of the file."""

    def harm(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 4
        path.write_bytes(content)

    return harm


def cut(place: float) -> Harm:
    """The file ends at this share of it."""
    return lambda path: path.write_bytes(path.read_bytes()[: int(place * path.stat().st_size)]) and None


def content(of: bytes) -> Harm:
    return lambda path: path.write_bytes(of) and None


def with_other(*, value: float = math.nan, honest: bool, texts: dict[str, str] | None = None) -> Harm:
    """Other values in the first weight, or other texts in the header; an honest file has the right hash."""

    def harm(path: Path) -> None:
        with safe_open(path, "pt") as file:
            header = {**file.metadata(), **(texts or {})}
        tensors = load_file(path)
        if texts is None:
            name = next(name for name in tensors if name.startswith("weight/"))
            tensors[name] = tensors[name] * value
        about = {name: text for name, text in header.items() if name != "hash"}
        if honest:
            header["hash"] = content_hash(tensors, about)
        save_file(tensors, path, header)

    return harm


def without_hash(path: Path) -> None:
    with safe_open(path, "pt") as file:
        header = {name: text for name, text in file.metadata().items() if name != "hash"}
    save_file(load_file(path), path, header)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def gigabyte(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(2**30)


HARMS: list[tuple[str, Harm]] = [
    ("a flipped bit in its length", flipped(0)),
    ("a flipped bit in its header", flipped(0.02)),
    ("a flipped bit in its middle", flipped(0.5)),
    ("a flipped bit at its end", flipped(1)),
    ("half of its bytes", cut(0.5)),
    ("all but its last byte", cut(0.9999)),
    ("nothing in it", content(b"")),
    ("noise in it", content(b"\x9a" * 4096)),
    ("a pickle in it", content(b"\x80\x04\x8c\x02os\x8c\x06system\x93.")),
    ("weights that are no numbers", with_other(honest=False)),
    ("weights that are no numbers, and their hash", with_other(honest=True)),
    ("endless weights, and their hash", with_other(value=math.inf, honest=True)),
    ("other weights", with_other(value=1.01, honest=False)),
    ("another training in its header", with_other(honest=True, texts={"training": '{"seed": 5}'})),
    ("a training without words in its header", with_other(honest=True, texts={"training": "[" * 10_000})),
    ("no hash", without_hash),
    ("a pipe in its place", pipe),
    ("a folder in its place", folder),
    ("a gigabyte of nothing behind it", gigabyte),
]


def only(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


def study(harm: Harm, where: str = "supernet") -> Callable[[Path], None]:
    """The study of `trained_study`, with harm done to its checkpoint."""

    def prepare(at: Path) -> None:
        shutil.copytree(trained_study(), at, dirs_exist_ok=True)
        harm(only(at / "studies" / "a" / where))

    return prepare


def swapped(path: Path) -> None:
    """The checkpoint of a study with another seed, under this one's name."""
    shutil.copy(only(trained_study(seed=1) / "studies" / "a" / "supernet"), path)


def foreign(path: Path) -> None:
    """The same under its own name."""
    path.unlink()
    shutil.copy(only(trained_study(seed=1) / "studies" / "a" / "supernet"), path.parent)


FINALIST = "259bd40103b9"
"""The digest of the finalist of `trained_study`."""


def _values(at: Path) -> dict[str, Any]:
    """Every trial of the study `a` in this folder, with its state and values."""
    found = open_study("a", at / "studies" / "studies.db")
    return {
        f"{trial.stage} {trial.number}": (trial.digest, trial.state, trial.values) for trial in found.trials()
    }


@lru_cache
def _undamaged() -> dict[str, Any]:
    """What the study finds when it is resumed for two more trials and nothing was damaged."""
    at = Path(shutil.copytree(trained_study(), trained_study() / "undamaged"))
    run_in(at, "resume", "a", "--trials", "6")
    return _values(at)


def _as_undamaged(at: Path, ended: Ended) -> None:
    found = _values(at)
    assert {state for _, state, _ in found.values()} == {TrialState.COMPLETE}
    assert found == _undamaged()


def supernet(harm: Harm) -> Callable[[Path], None]:
    """The folder of a supernet, `net`, with harm done to its weights."""

    def prepare(at: Path) -> None:
        (at / "tiny.py").write_text(TINY_SPACE)
        shutil.copytree(trained_supernet(), at / "net")
        harm(only(at / "net"))

    return prepare


def described(changes: list[tuple[str, Any]]) -> Callable[[Path], None]:
    """The folder of a supernet, `net`, with other values in its description."""

    def prepare(at: Path) -> None:
        supernet(lambda path: None)(at)
        about = at / "net" / "supernet.json"
        about.write_text(json.dumps(changed(json.loads(about.read_text()), changes)))

    return prepare


def about_is(harm: Harm) -> Callable[[Path], None]:
    """The folder of a supernet, `net`, with harm done to its description."""

    def prepare(at: Path) -> None:
        supernet(lambda path: None)(at)
        harm(at / "net" / "supernet.json")

    return prepare


def of_another_space(at: Path) -> None:
    """A description, and the weights of another space under the name that they had."""
    supernet(lambda path: path.unlink())(at)
    shutil.copy(only(trained_supernet(width=24)), at / "net")


DESCRIPTIONS: list[tuple[str, str, Any, str]] = [
    ("another format", "format", 1, "this version reads format 3"),
    ("a format in words", "format", "two", "this version reads format 3"),
    ("no space", "space", None, "lacks space"),
    ("a space without a tree", "space.tree", None, "supernet.json is damaged"),
    ("a tree that is a number", "space.tree", 5, "not of tiny"),
    ("a tree of unknown blocks", "space.tree.type", "Encoder", "Encoder"),
    ("a name for the space in many words", "space.name", ["tiny"], "space.name must be text"),
    ("a digest that is a path", "task.digest", "../x", "task.digest must be a name, not a path"),
    ("no task", "task", None, "lacks task"),
    ("a task without a name", "task.name", "", "task.name must be text, not empty"),
    ("settings in a list", "task.settings", [], "task.settings must be an object"),
    ("no steps", "steps", 0, "steps must be at least 1"),
    ("half a step", "steps", 2.5, "steps must be a whole number"),
    ("steps beyond all numbers", "steps", 10**39, "steps must be at most"),
    ("fewer steps", "steps", 1, "is damaged|belongs to another|no checkpoint"),
    ("a negative seed", "seed", -1, "seed must be at least 0"),
    ("another seed", "seed", 7, "belongs to another training, with another seed"),
    ("another batch", "batch", 3, "belongs to another training, with another batch"),
    ("another task", "task.digest", "abc", "belongs to another training, with another task"),
    ("a recipe in a list", "recipe", [], "recipe must be an object"),
    ("a recipe with more settings", "recipe.colour", 1, "no setting 'colour'"),
    ("another recipe", "recipe.clip", 2.0, "belongs to another training, with another recipe"),
]

SEARCH = f"search tiny.py --name b --supernet net {SMALL.replace('--train-steps 3 --train-batch 4 ', '')}"

CASES = [
    *[
        Case(
            f"resume: a supernet with {what}",
            "resume a --trials 6",
            code=0,
            prepare=study(harm),
            says="WARNING: .*(is damaged|belongs to another|not a file|has a header)",
            check=_as_undamaged,
            lines=12,
            seconds=30,
            slow=True,
        )
        for what, harm in HARMS
        if harm is not folder  # nothing can be written there: refused, as it should be
    ],
    *[
        Case(
            f"resume: {what}",
            "resume a --trials 6",
            code=0,
            prepare=study(harm),
            check=_as_undamaged,
            lines=12,
            seconds=30,
            slow=True,
        )
        for what, harm in (
            ("the supernet of another study under its name", swapped),
            ("the supernet of another study beside it", foreign),
            ("no supernet", Path.unlink),
        )
    ],
    *[
        Case(
            f"export: a finalist with {what}",
            f"export a {FINALIST} -o out",
            code=0,
            prepare=study(harm, "scratch"),
            says="WARNING: .*(is damaged|belongs to another|not a file|has a header)",
            lines=3,
            seconds=20,
            slow=True,
        )
        for what, harm in HARMS[::4]
    ],
    *[
        Case(
            f"search: the weights of a given supernet have {what}",
            SEARCH,
            prepare=supernet(harm),
            says="net/.*(is damaged|belongs to another|is a|has a header)",
            seconds=10,
        )
        for what, harm in HARMS
    ],
    Case(
        "search: a given supernet has the weights of another space",
        SEARCH,
        prepare=of_another_space,
        says="belongs to another training, with another spec",
    ),
    *[
        Case(
            f"search: a given supernet is described with {what}",
            SEARCH,
            prepare=described([(place, value)]),
            says=says,
        )
        for what, place, value, says in DESCRIPTIONS
    ],
    *[
        Case(
            f"info: the weights of a supernet have {what}",
            "supernet info net",
            prepare=supernet(harm),
            says="net/.*(is damaged|belongs to another|is a|has a header)",
            seconds=10,
        )
        for what, harm in HARMS
    ],
    Case(
        "info: a supernet has the weights of another space",
        "supernet info net",
        prepare=of_another_space,
        says="belongs to another training, with another spec",
    ),
    *[
        Case(
            f"info: a supernet whose description is {what}",
            "supernet info net",
            prepare=about_is(harm),
            says=says,
        )
        for what, harm, says in (
            ("a pipe", pipe, "is a pipe, not a file"),
            ("a folder", folder, "is a folder, not a file"),
            ("noise", content(b"\x9a" * 99), "not text in UTF-8"),
            ("half there", cut(0.5), "is damaged or not JSON"),
            ("a list", content(b"[]"), "describes no supernet"),
            ("a gigabyte", gigabyte, "is too large"),
            ("nested too deep", content(b"[" * 10**5), "nested deeper"),
        )
    ],
]
