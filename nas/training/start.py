"""Where a training begins: the weights of a trial, of a published architecture, or of an exported folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.errors import NasError, SettingError
from foundation.files import real_path
from foundation.wording import argument
from nas.default_paths import DEFAULT_STORE
from nas.exports.base import Network, target_of
from nas.progress import Progress
from nas.study.model_code import code_of, load
from nas.training.settings import saved_settings
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import (
    CONFIG,
    TOKENIZER,
    ModelCode,
    check_free,
    read_config,
    read_tokenizer,
)
from search_spaces.zoo import PREFIX as ZOO
from search_spaces.zoo import zoo


@dataclass(frozen=True)
class Start:
    """A network with its weights, what is known of them, and the settings that they were trained with.

    `folder` is where a training lies already that goes on, `tokenizer` the tokenizer.json of the tokens that
    the weights know; `learned` says whether they know any.
    """

    model: Model
    about: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    code: ModelCode | None = None
    folder: Path | None = None
    tokenizer: bytes | None = None
    learned: bool = True


def start_of(
    what: str,
    trial: str | None = None,
    *,
    store: str = DEFAULT_STORE,
    space: str | None = None,
    trust_code: bool = False,
    seed: int = 0,
    shapes_only: bool = False,
    unfinished: bool = False,
    progress: Progress | None = None,
) -> Start:
    """The start that words name: `zoo:NAME`, a folder, or a study and a trial of it.

    `seed` is that of the weights of a published architecture, which has none. `progress` is told where a
    trial is no winner, and where its weights were not kept, so that it is trained again; with `shapes_only`
    it is not, and its weights may be any. With `unfinished`, a folder may be that of a training which never
    came to an export, to go on with it.

    Raises:
        SettingError: there is nothing of this name, or it has no weights.
    """
    check_named(what, trial, store=store)
    if what.startswith(ZOO):
        return _of_zoo(what.removeprefix(ZOO), seed)
    if trial is not None:
        return _of_study(what, trial, store, space, shapes_only=shapes_only, progress=progress)
    return _of_folder(what, trust_code, unfinished=unfinished)


def check_named(what: str, trial: str | None, *, store: str = DEFAULT_STORE) -> None:
    """Refuse at once words that name a study without a trial, or a trial of what is one network.

    Raises:
        SettingError: they do.
    """
    if what.startswith(ZOO):
        if trial is not None:
            raise SettingError(f"{what} is one network: there is no {trial!r} of it")
        return
    is_folder = (Path(what) / CONFIG).is_file()
    if is_folder == (trial is None):  # or else it may be the study that has the name
        return
    is_study = _is_study(what, store)
    if trial is None and is_study:
        raise SettingError(
            f"{what} is a study: name one of its trials behind it, e.g. {what} best (`nas front {what}`"
            " lists some)"
        )
    if trial is not None and not is_study:
        turned = f"leave out the trial, {trial!r}"
        if _is_study(trial, store):
            turned = f"{trial} is a study, and a study stands before its trial: {trial} {what}"
        raise SettingError(f"{what} is the folder of one network: {turned}")


def _is_study(name: str, store: str) -> bool:
    """Whether a store can be read and has a study of this name."""
    from nas.store import Store

    with suppress(NasError), Store(store, read_only=True) as opened:
        return opened.holds(name)
    return False


def check_output(output: str | Path | None, *, force: bool = False, is_begun: Callable[[Path], bool]) -> None:
    """Refuse at once, before weights are made that were not kept, a folder that would be refused with them.

    `is_begun` says whether work lies in it that may go on; whether it does is seen once the weights are read.

    Raises:
        SettingError: none is named, it holds something else than a model, or a model and no `force`.
    """
    if output is None:
        raise SettingError(f"name the folder to write: {argument('output', 'FOLDER')}")
    check_free(output, force=force or is_begun(Path(output)))


def export_start(
    what: str,
    trial: str | None,
    folder: str | Path,
    *,
    to: str = "nas",
    force: bool = False,
    trust_code: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Write a published architecture, or the network of an exported folder, in a format (`nas targets`).

    Raises:
        SettingError: there is no such network; the format cannot hold it; the folder may not be replaced.
        FileError: a file cannot be read or written.
    """
    target = target_of(to)
    target.check(folder, force=force)  # before a large model is read
    if real_path(what) == real_path(folder):
        raise SettingError(f"{folder} is the network itself: name another folder to write")
    start = start_of(what, trial, trust_code=trust_code)
    network = Network(start.model, start.about, start.code, start.tokenizer)
    return Path(folder), target.export(network, folder, force=force)


def _of_zoo(name: str, seed: int) -> Start:
    point = zoo[name]
    about = {"architecture": name, "weights": f"initial ones of seed {seed}"}
    return Start(build(point.spec, seed=seed), about, learned=False)


def _of_study(
    name: str, which: str, store: str, space: str | None, *, shapes_only: bool, progress: Progress | None
) -> Start:
    from nas.objectives.base import objectives
    from nas.study.export import best_weights, require_weights
    from nas.study.open_study import open_study
    from nas.study.plan_objectives import quality_name
    from nas.study.standing import tell_standing

    study = open_study(name, store)
    trial = study.trial(which)
    study = study.with_source(space)
    if progress is not None:
        tell_standing(study, trial, progress)
    if shapes_only:
        require_weights(study, trial)
        model, about = build(study.spec(trial)), dict[str, Any]()
    else:
        model, about = best_weights(study, trial, progress=progress)
    plan = study.plan
    kept = ("train_batch", "recipe", "data", "window", "validation_windows", "seed", "train_on")
    settings = {name: getattr(plan, name) for name in kept}
    settings["task"] = objectives[quality_name(plan)].task
    kept_tokenizer = study.folder / TOKENIZER
    tokenizer = kept_tokenizer.read_bytes() if kept_tokenizer.is_file() else None
    return Start(model, about, settings, code_of(model.spec), tokenizer=tokenizer)


def _of_folder(what: str, trust_code: bool, *, unfinished: bool) -> Start:
    folder = Path(what)
    if not (folder / CONFIG).is_file():
        there = f"{folder} holds no exported model" if folder.is_dir() else f"there is no folder {what}"
        raise SettingError(f"{there}: name a folder, {ZOO}NAME (`nas zoo`), or a study and one of its trials")
    settings = saved_settings(folder)
    about = read_config(folder).get("about", {})
    begun = folder if settings is not None else None
    model = load(folder, trust_code=trust_code, unfinished=unfinished and begun is not None)
    return Start(model, about, settings or {}, code_of(model.spec), begun, read_tokenizer(folder))
