"""A trained supernet as a folder that explains itself: one training, then searches on many devices.

    supernet.json       space, task, recipe, steps, seed: all that is needed to read the weights
    curve.json          losses by step, seconds spent
    *.safetensors       weights and optimizer state after the last step

`describe` writes the first file; `open_supernet` reads it and returns an evaluator, which scores any
architecture of the space without further training. A folder that does not fit is refused, each reason with an
error of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from evaluators.supernet.evaluator import CURVE, FromSupernet, trained_as
from evaluators.tasks.base import Task, tasks
from evaluators.training import checkpoints
from evaluators.training.curve import Curve
from evaluators.training.execution import Execution
from evaluators.training.recipe import Recipe
from foundation.errors import FileError, NasError, NoFile, SettingError
from foundation.fields import Field
from foundation.files import read_json, write_json
from search_spaces.language.choices import field_names
from search_spaces.language.serialization import from_plain, to_json, to_plain
from search_spaces.language.space import Space

ABOUT = "supernet.json"
FORMAT = 3


class SupernetError(SettingError):
    """A folder does not hold the supernet that is asked for."""


class NoSupernet(SupernetError):
    """There is none in this folder."""


class OtherSpace(SupernetError):
    """Its weights are those of another space."""


class OtherCorpus(SupernetError):
    """It learned another task, or other data."""


class Unfinished(SupernetError):
    """Its training has not come to its end."""


class Damaged(SupernetError):
    """Its files cannot be read, or contradict each other."""


def describe(evaluator: FromSupernet, space: Space) -> Path:
    """Write down what a folder will hold, before its training begins; the file's path.

    A description without weights, of a training that failed before its first checkpoint, is replaced.

    Raises:
        OtherSpace: the folder already holds a supernet of another space.
        SettingError: it holds a training of the same space that differs in something else.
    """
    folder = Path(evaluator.folder)
    about = {
        "format": FORMAT,
        "space": {"name": space.name, "digest": space.digest, "tree": to_plain(space.root)},
        "task": _described(evaluator.task),
        "steps": evaluator.steps,
        "seed": evaluator.seed,
        "batch": evaluator.batch,
        "recipe": evaluator.recipe.on(evaluator.execution.device).to_plain(),
        "torch": torch.__version__,
    }
    path = folder / ABOUT
    if path.exists() and any(folder.glob("*.safetensors")):  # without weights it holds nothing yet
        _require_same(folder, read_about(folder), json.loads(json.dumps(about)))
        return path
    write_json(path, about)
    return path


def is_supernet(folder: Path) -> bool:
    """Whether a folder holds a supernet, however far its training is."""
    return (folder / ABOUT).exists()


def read_about(folder: str | Path) -> dict[str, Any]:
    """The description of a supernet in its folder.

    Raises:
        NoSupernet: there is none.
        Damaged: it cannot be read, or was written by another version.
    """
    path = Path(folder) / ABOUT
    try:
        about: dict[str, Any] = read_json(path)
    except NoFile:
        how = f"`nas supernet train SPACE -o {folder}` makes one"
        raise NoSupernet(f"{folder} holds no supernet: {how}") from None
    except FileError as error:
        raise Damaged(str(error)) from None
    if not isinstance(about, dict):
        raise Damaged(f"{path} is damaged: it describes no supernet")
    missing = {"space", "task", "steps", "seed", "batch", "recipe"} - set(about)
    if missing or about.get("format") != FORMAT:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has format {about.get('format')!r:.40}"
        raise Damaged(
            f"{path} {what}; this version reads format {FORMAT}: train it again in another folder, or use the"
            " version that wrote it"
        )
    try:
        _check(Field(about))
    except NasError as error:
        raise Damaged(f"{path} is damaged: {error}") from None
    return about


def _check(about: Field) -> None:
    """Raise a `NasError` for a value that no description has; a tree is looked at when it is read."""
    for what in ("space", "task"):
        about[what]["name"].text(most=2_000)
        about[what]["digest"].name()
    about["task"]["settings"].names(most=100)
    for name, least in (("steps", 1), ("seed", 0), ("batch", 1)):
        about[name].whole(least=least, most=2**63 - 1)
    about["recipe"].names(most=100)
    Recipe.from_plain(about["recipe"].plain)


def open_supernet(
    folder: str | Path,
    *,
    space: Space | None = None,
    task: Task | None = None,
    device: str = "cpu",
    finished: bool = True,
) -> FromSupernet:
    """The evaluator of the supernet in a folder.

    With a `space`, its weights must be those of this space; with a `task`, it must have learned this one,
    from the same data. Without a task, the one that it names is opened. `finished=False` also opens one whose
    training has not ended, to continue it.

    Raises:
        NoSupernet: the folder holds none.
        OtherSpace: it is of another space.
        OtherCorpus: it learned something else.
        Unfinished: its training has not ended.
        Damaged: its files cannot be read.
        DataError: its data are not here, and no `task` is given.
    """
    about = read_ready(folder, space) if finished else _of_space(folder, space)
    evaluator = FromSupernet(
        _task(folder, about["task"], task),
        _space_json(folder, about),
        str(folder),
        about["steps"],
        about["seed"],
        about["batch"],
        Recipe.from_plain(about["recipe"]),
        Execution(device=device),
        about["space"]["name"],
    )
    return evaluator


def read_ready(folder: str | Path, space: Space | None = None) -> dict[str, Any]:
    """The description of a supernet whose training has ended, which is whole, and of this space.

    Its weights are read once, see `checkpoints.verify`.

    Raises:
        NoSupernet: the folder holds none.
        OtherSpace: it is of another space.
        Unfinished: its training has not ended.
        Damaged: its files cannot be read.
    """
    about = _of_space(folder, space)
    _require_finished(Path(folder), about)
    return about


def read_training(folder: str | Path) -> dict[str, Any]:
    """How the training of a finished supernet went: `steps`, `seconds`, and the curve of its losses.

    Raises:
        NoSupernet, Unfinished, Damaged: as `read_ready`.
    """
    steps = read_ready(folder)["steps"]
    try:
        return {"steps": steps, **Curve.read(Path(folder) / CURVE, steps).to_plain()}
    except FileError as error:
        raise Damaged(f"{error}: take another copy of {folder}") from None


def _of_space(folder: str | Path, space: Space | None) -> dict[str, Any]:
    about = read_about(folder)
    if space is not None and to_json(space.root) != _space_json(folder, about):
        held = about["space"]
        raise OtherSpace(
            f"{folder} holds a supernet of the space {held['name']} ({held['digest']}),"
            f" not of {space.name} ({space.digest})"
        )
    return about


def _described(task: Task) -> dict[str, Any]:
    settings = {name: getattr(task, name) for name in field_names(type(task))}
    return {"name": task.name, "settings": settings, "digest": task.digest, "about": task.about()}


def _task(folder: str | Path, learned: Mapping[str, Any], given: Task | None) -> Task:
    """The task that was learned, opened; or the given one, if it is the same."""
    try:
        task = given if given is not None else tasks[learned["name"]](**learned["settings"])
    except TypeError as error:
        raise Damaged(f"{Path(folder) / ABOUT} is damaged: its task cannot be made: {error}") from None
    if task.digest != learned["digest"]:
        data = (learned.get("about") or {}).get("name", "its own rule")
        raise OtherCorpus(
            f"{folder} learned the task {learned['name']} {learned['digest']} ({data}), and this is"
            f" {task.name} {task.digest}: text, length and number of windows must be the same"
        )
    return task


def _require_same(folder: Path, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    advice = "choose another folder"
    if held["space"]["tree"] != wanted["space"]["tree"]:
        raise OtherSpace(f"{folder} holds a supernet of the space {held['space']['name']}: {advice}")
    if held["task"]["digest"] != wanted["task"]["digest"]:
        raise OtherCorpus(f"{folder} was started on the task {held['task']['digest']}: {advice}")
    if unlike := Recipe.from_plain(held["recipe"]).unlike(Recipe.from_plain(wanted["recipe"])):
        raise SettingError(f"{folder} was trained by another recipe ({unlike}): {advice}")
    for name in ("steps", "seed", "batch"):
        if held[name] != wanted[name]:
            raise SettingError(f"{folder} has {name}={held[name]!r}, not {wanted[name]!r}: {advice}")


def progress(folder: str | Path) -> dict[str, Any]:
    """The last step that is kept, of `steps` in all, its `phase`, and the `file`; step 0 where there is none.

    Raises:
        NoSupernet: the folder holds none.
        Damaged: its files cannot be read.
    """
    about = read_about(folder)
    kept = [(checkpoints.step_of(path), path) for path in Path(folder).glob("*.safetensors")]
    if not kept:
        return {"step": 0, "steps": about["steps"], "phase": None, "file": None}
    step, path = max(kept)
    try:
        phase = checkpoints.progress_in(path).get("phase")
    except ValueError as error:
        if not path.exists():  # the training has gone on, and another one is there
            return progress(folder)
        raise Damaged(f"{path} is damaged: {error}; without it the training starts again") from None
    return {"step": step, "steps": about["steps"], "phase": phase, "file": path.name}


def verified_progress(folder: str | Path) -> dict[str, Any]:
    """The same, once the weights were read: they are whole, and those of the training that is described.

    Raises:
        NoSupernet, Damaged: as `progress`.
    """
    while True:
        done = progress(folder)
        try:
            if done["file"]:
                _verify(Path(folder), read_about(folder), done["step"])
            return done
        except NoFile:
            if (Path(folder) / done["file"]).exists():
                raise


def _require_finished(folder: Path, about: Mapping[str, Any]) -> None:
    step, steps = progress(folder)["step"], about["steps"]
    if step < steps:
        raise Unfinished(
            f"{folder} has done {step} of {steps} training steps; `nas supernet train` with the same settings"
            " continues"
        )
    try:
        _verify(folder, about, steps)
    except NoFile as error:
        raise Damaged(f"{error}: it was removed meanwhile") from None


def _verify(folder: Path, about: Mapping[str, Any], step: int) -> None:
    """Read the weights after a step, which must be whole and belong to what is described.

    Raises:
        NoFile: there are none.
        Damaged: they are damaged, or those of another training.
    """
    recipe = Recipe.from_plain(about["recipe"])
    expected = trained_as(
        _space_json(folder, about), about["task"]["digest"], about["seed"], about["batch"], recipe
    )
    try:
        checkpoints.verify(folder, step, {**expected, "steps": about["steps"]})
    except NoFile:
        raise
    except FileError as error:
        raise Damaged(
            f"{error}; take another copy of {folder}, or train it again: `nas supernet train` with the same"
            " settings"
        ) from None


def _space_json(folder: str | Path, about: Mapping[str, Any]) -> str:
    """The tree of the space that a folder names, as the evaluator keeps it."""
    try:
        return to_json(from_plain(about["space"]["tree"]))
    except (NasError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise Damaged(f"{Path(folder) / ABOUT} is damaged: its space cannot be read: {error}") from None
