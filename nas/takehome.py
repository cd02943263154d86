"""Taking a network home: its best weights as a plain model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evaluators.corpus import load_corpus
from evaluators.tasks.language import ByteLanguageModelling
from nas.quality import QUALITY, scratch_evaluator, supernet_evaluator
from nas.study import Study
from nas.trial import Trial, TrialState
from search_spaces.errors import DataError, SettingError
from search_spaces.export import save_model
from search_spaces.model import Model


def task_of(study: Study) -> ByteLanguageModelling:
    """The task of a study.

    Raises:
        SettingError: the study models no language, or its text is no longer the same.
    """
    plan, known = study.plan, study.facts.get("corpus")
    if QUALITY not in plan.objectives:
        raise SettingError(f"study {study.name} models no text: {QUALITY} is not among its objectives")
    if known is None:
        raise SettingError(f"study {study.name} has learned no text yet: `nas resume {study.name}`")
    corpus = load_corpus(plan.data)
    if corpus.digest != known["digest"]:
        raise DataError(
            f"study {study.name} learned the corpus {known['digest']}, but {corpus.name} is now"
            f" {corpus.digest}"
        )
    return ByteLanguageModelling(corpus.folder, length=plan.length, windows=plan.windows)


def longest_training(study: Study, digest: str) -> Trial | None:
    """The trial in which this architecture was trained from scratch for the most steps."""
    trained = [
        trial
        for stage in ("search", "final", "validate")
        for trial in study.trials(stage)
        if trial.digest == digest
        and trial.state is TrialState.COMPLETE
        and trial.fidelity.evaluator == "scratch"
    ]
    return max(trained, key=lambda trial: trial.fidelity.steps, default=None)


def best_weights(study: Study, trial: Trial) -> tuple[Model, dict[str, Any]]:
    """The architecture with the best weights that the study has for it, and what they are.

    Trained from scratch where it was, else extracted from the supernet.

    Raises:
        SettingError: the study has no weights for it.
    """
    task, plan, spec = task_of(study), study.plan, study.spec(trial)
    trained = longest_training(study, trial.digest)
    if trained is not None:
        steps = trained.fidelity.steps
        model = scratch_evaluator(plan, task, study.folder).trained_model(spec, steps, trained.seed)
        return model, _about(study, trained, f"trained from scratch for {steps} steps")
    if plan.evaluator == "supernet" and "supernet" in study.facts:
        supernet = supernet_evaluator(study.space, plan, task, study.folder).supernet
        return supernet.subnet(spec).extract(), _about(study, trial, "extracted from the supernet")
    raise SettingError(f"study {study.name} has no weights for {trial.digest}: `nas resume {study.name}`")


def export(study: Study, which: str | int, folder: str | Path) -> tuple[Path, dict[str, Any]]:
    """Write a trial's network as an exported model; the folder, and where the weights come from."""
    trial = study.trial(which)
    model, about = best_weights(study, trial)
    return save_model(model, folder, about), about


def _about(study: Study, trial: Trial, weights: str) -> dict[str, Any]:
    quality = trial.values.get(QUALITY)
    return {
        "study": study.name,
        "digest": trial.digest,
        "weights": weights,
        "corpus": study.facts["corpus"]["digest"],
        QUALITY: quality.value if quality else None,
    }
