"""A network of a study as a plain model, with its best weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.base import Task
from foundation.errors import SettingError
from foundation.text import duration
from nas.exports.base import Network, target_of
from nas.progress import Progress
from nas.study.evaluators import scratch_evaluator, search_evaluator, supernet_evaluator
from nas.study.facts import CORPUS, SUPERNET
from nas.study.forecast import Work
from nas.study.model_code import code_of, load
from nas.study.modified import LIST, OF, folder_of, lines_of
from nas.study.modified import STAGE as MODIFIED_STAGE
from nas.study.plan_objectives import quality_name
from nas.study.standing import tell_standing
from nas.study.study import Study
from nas.study.task import task_of
from nas.study.trial import STAGES, Trial, TrialState
from search_spaces.network.model import Model
from search_spaces.network.model_files import CONFIG, read_config


def longest_training(study: Study, digest: str) -> Trial | None:
    """The trial in which this architecture was trained from scratch for the most steps."""
    found = study.store.trials(study.record, None, digest=digest, on_unreadable=lambda unreadable: None)
    trained = [
        trial
        for trial in sorted(found, key=lambda trial: STAGES.index(trial.stage))
        if trial.stage != "repeat"  # the same training with another seed
        and trial.state is TrialState.COMPLETE
        and trial.fidelity.evaluator == "scratch"
        and (trial.stage != "search" or set(study.plan.objectives) <= set(trial.values))
    ]
    return max(trained, key=lambda trial: trial.fidelity.steps, default=None)


def has_weights(study: Study, digest: str) -> bool:
    """Whether `best_weights` would find some: of a training of its own, or shared ones."""
    if study.quality is None:
        return False
    shared = study.plan.evaluator == "supernet" and SUPERNET in study.facts
    return shared or longest_training(study, digest) is not None


def require_weights(study: Study, trial: Trial) -> None:
    """Raise `SettingError` where `best_weights` would find none; nothing is read or trained."""
    if trial.stage == MODIFIED_STAGE:
        _modified_folder(study, trial)
    elif not has_weights(study, trial.digest):
        raise _no_weights(study, trial)


def best_weights(
    study: Study,
    trial: Trial,
    task: Task | None = None,
    *,
    on_step: Callable[[int, float], None] | None = None,
    progress: Progress | None = None,
    scratch: Path | None = None,
) -> tuple[Model, dict[str, Any]]:
    """The architecture with the weights that were trained for longest, and what they are.

    Trained from scratch where it was, else extracted from the supernet. A `task` that is open is taken. Where
    the checkpoint of its training is gone, it is trained again: `progress` says so before and shows it, or
    `on_step` hears of every step. What is trained is kept in the study's folder, or in `scratch`.

    Raises:
        SettingError: the study has no weights for it.
    """
    if trial.stage == MODIFIED_STAGE:
        return _modified(study, trial)
    task, plan, spec = task or task_of(study), study.plan, study.spec(trial)
    trained = longest_training(study, trial.digest)
    if trained is not None:
        steps = trained.fidelity.steps
        evaluator = search_evaluator if trained.stage == "search" else scratch_evaluator
        alone = evaluator(plan, task, study.folder)
        if scratch is not None:
            alone = _apart(alone, scratch)
        model = _trained(study, trained, alone, on_step=on_step, progress=progress)
        return model, _about(study, trained, f"trained from scratch for {steps} steps")
    if plan.evaluator == "supernet" and SUPERNET in study.facts:
        supernet = supernet_evaluator(study.space, plan, task, study.folder).supernet
        weights = (
            "extracted from the supernet" if plan.parent is None else f"those of {Path(plan.parent).name}"
        )
        return supernet.subnet(spec).extract(), _about(study, trial, weights)
    raise _no_weights(study, trial)


def export(
    study: Study,
    which: str | int,
    folder: str | Path,
    *,
    to: str = "nas",
    force: bool = False,
    space: str | None = None,
    progress: Progress | None = None,
    scratch: Path | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write a trial's network into a folder; the folder, where the weights come from, and what was checked.

    `to` is a format with its settings, `NAME[,SETTING=VALUE...]` (`nas targets` lists them). With `force`, a
    network that was exported into this folder before is replaced. What only the source of the study's space
    defines is run from the study's own copy, or from `space` (`FILE.py[:NAME]`). For `progress` and `scratch`
    see `best_weights`.

    Raises:
        SettingError: the study has no weights for it; the format cannot hold it; the folder holds something
            else, or an export and no `force`.
        FileError: it cannot be written.
    """
    if not isinstance(study, Study):
        raise SettingError(f"export takes a study, such as nas.open(NAME), got {study!r}")
    target = target_of(to)
    target.check(folder, force=force)  # before anything is trained or extracted
    trial = study.trial(which)
    study = study.with_source(space)
    target.require(study.spec(trial))
    if progress is not None:
        tell_standing(study, trial, progress)
    task = task_of(study)
    model, about = best_weights(study, trial, task, progress=progress, scratch=scratch)
    network = Network(model, about, code_of(model.spec), task.tokenizer_json())
    return Path(folder), target.export(network, folder, force=force)


def _trained(
    study: Study,
    trial: Trial,
    alone: FromScratch,
    *,
    on_step: Callable[[int, float], None] | None,
    progress: Progress | None,
) -> Model:
    """The network of a training: from its checkpoint, else trained again, which is told before it begins."""
    spec, steps, plan = study.spec(trial), trial.fidelity.steps, study.plan
    left = alone.steps_left(spec, steps, trial.seed)
    if progress is None or not left:
        return alone.trained_model(spec, steps, trial.seed, on_step)
    work = Work(largest=spec, length=alone.task.length, device=plan.train_on)
    time = duration(work.learning(left, plan.train_batch).seconds)
    progress.say(
        f"the weights of {trial.digest} are not in {alone.checkpoints}: it is trained again, {left:,} steps,"
        f" about {time} (stopped, the same command goes on)"
    )
    done = count(1)
    with progress.bar("training again", left) as bar:
        return alone.trained_model(
            spec, steps, trial.seed, lambda step, loss: bar.update(next(done), f"{loss:.3f}")
        )


def _apart(alone: FromScratch, folder: Path) -> FromScratch:
    """The evaluator with checkpoints of its own in a folder, which begin as links to those of the study."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in Path(alone.checkpoints or folder).glob("*.safetensors"):
        (folder / path.name).symlink_to(path.absolute())
    return replace(alone, checkpoints=str(folder))


def _no_weights(study: Study, trial: Trial) -> SettingError:
    return SettingError(f"study {study.name} has no weights for {trial.digest}: `nas resume {study.name}`")


def _modified_folder(study: Study, trial: Trial) -> Path:
    folder = folder_of(study, str(trial.memo[OF]), trial.memo[LIST])
    if not (folder / CONFIG).is_file():
        raise SettingError(f"study {study.name} has no weights for {trial.digest}: {folder} is gone")
    return folder


def _modified(study: Study, trial: Trial) -> tuple[Model, dict[str, Any]]:
    """What modifiers made at the end of the study.

    Raises:
        SettingError: its folder is gone.
    """
    folder = _modified_folder(study, trial)
    about = read_config(folder).get("about", {})
    made = {"digest": trial.digest, "weights": f"{about.get('weights')}: {lines_of(trial)}"}
    return load(folder, trust_code=True), {**about, **made}


def _about(study: Study, trial: Trial, weights: str) -> dict[str, Any]:
    name, corpus = quality_name(study.plan), study.facts.get(CORPUS)
    quality = trial.values.get(name)
    return {
        "study": study.name,
        "digest": trial.digest,
        "weights": weights,
        **({"corpus": corpus["digest"]} if corpus else {}),
        name: quality.value if quality else None,
    }
