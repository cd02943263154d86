"""A network of a study as a plain model, with its best weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluators.tasks.base import Task
from foundation.errors import SettingError
from nas.exports.base import Network, target_of
from nas.study.evaluators import scratch_evaluator, search_evaluator, supernet_evaluator
from nas.study.facts import CORPUS, SUPERNET
from nas.study.model_code import code_of, load
from nas.study.modified import LIST, OF, folder_of, lines_of
from nas.study.modified import STAGE as MODIFIED_STAGE
from nas.study.plan_objectives import quality_name
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


def best_weights(
    study: Study,
    trial: Trial,
    task: Task | None = None,
    *,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[Model, dict[str, Any]]:
    """The architecture with the weights that were trained for longest, and what they are.

    Trained from scratch where it was, else extracted from the supernet. A `task` that is open is taken. Where
    the checkpoint of its training is gone, it is trained again, and `on_step` hears of every step.

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
        model = alone.trained_model(spec, steps, trained.seed, on_step)
        return model, _about(study, trained, f"trained from scratch for {steps} steps")
    if plan.evaluator == "supernet" and SUPERNET in study.facts:
        supernet = supernet_evaluator(study.space, plan, task, study.folder).supernet
        weights = (
            "extracted from the supernet" if plan.parent is None else f"those of {Path(plan.parent).name}"
        )
        return supernet.subnet(spec).extract(), _about(study, trial, weights)
    raise SettingError(f"study {study.name} has no weights for {trial.digest}: `nas resume {study.name}`")


def export(
    study: Study,
    which: str | int,
    folder: str | Path,
    *,
    to: str = "nas",
    force: bool = False,
    space: str | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Write a trial's network into a folder; the folder, where the weights come from, and what was checked.

    `to` is a format with its settings, `NAME[,SETTING=VALUE...]` (`nas targets` lists them). With `force`, a
    network that was exported into this folder before is replaced. What only the source of the study's space
    defines is run from the study's own copy, or from `space` (`FILE.py[:NAME]`).

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
    task = task_of(study)
    model, about = best_weights(study, trial, task)
    network = Network(model, about, code_of(model.spec), task.tokenizer_json())
    return Path(folder), target.export(network, folder, force=force)


def _modified(study: Study, trial: Trial) -> tuple[Model, dict[str, Any]]:
    """What modifiers made at the end of the study.

    Raises:
        SettingError: its folder is gone.
    """
    folder = folder_of(study, str(trial.memo[OF]), trial.memo[LIST])
    if not (folder / CONFIG).is_file():
        raise SettingError(f"study {study.name} has no weights for {trial.digest}: {folder} is gone")
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
