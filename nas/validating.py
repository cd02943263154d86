"""Validation of a study's proxy as a user asks for it: with the study's own task, workers and progress."""

from __future__ import annotations

from nas.executors.local import InProcess
from nas.progress import Progress
from nas.quality import QUALITY, EvaluatorScorer, scratch_evaluator
from nas.searching import Session, Workers, quality_scorer
from nas.study import Study
from nas.takehome import task_of
from nas.trial import Trial
from nas.validate import Agreement, validate


def validate_study(
    study: Study, networks: int, steps: int, workers: Workers, progress: Progress
) -> Agreement:
    """Rank random networks by the proxy and by training from scratch; see `nas.validate.validate`."""
    task, done = task_of(study), 0
    proxy = quality_scorer(Session(study=study, progress=progress), task)
    truth = EvaluatorScorer(scratch_evaluator(study.plan, task, study.folder))
    with (
        workers.executor({QUALITY: truth}) as trainer,
        progress.phase("validating the proxy", 2 * networks) as phase,
    ):

        def on_trial(trial: Trial) -> None:
            nonlocal done
            done += 1
            phase.update(done, f"{trial.fidelity.evaluator} {trial.digest}")

        return validate(
            study, networks, steps, proxy=InProcess({QUALITY: proxy}), truth=trainer, on_trial=on_trial
        )
