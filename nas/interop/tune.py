"""Ray Tune drives a space and the evaluator of a study: any of its searchers and schedulers.

    from ray import tune
    from nas.interop.tune import add_results, evaluation, param_space

    study = nas.search(space, name="tuned", evaluator="scratch", train_steps=200, trials=0, finalists=0)
    tuner = tune.Tuner(
        evaluation(study, rungs=(50, 100, 200)),
        param_space=param_space(study.space),
        tune_config=tune.TuneConfig(
            metric="bits_per_byte", mode="min", num_samples=16, scheduler=tune.schedulers.ASHAScheduler()
        ),
    )
    add_results(study, tuner.fit())

Ray Tune starts an actor for each trial, which takes seconds; `nas search --workers` does not.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from foundation.error_text import cut_line
from foundation.errors import FileError, IllegalArchitecture, SettingError
from foundation.files import parse_json, read_json, write_json
from nas.executors.base import worker_name
from nas.executors.cluster import Kinds, own_kinds, register
from nas.interop.judge import Judge, option_of, take_up, trial_of
from nas.study.study import Study
from nas.study.trial import Trial, TrialState, Value
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space, as_space

OUTCOME = "outcome"
"""In what a trial of Tune reports: the architecture and its values, as JSON."""

STEPS = "steps"
"""In the same: the training steps of the score."""

STATE = "state.json"

PARAMS = "params.json"
"""Where Tune writes the answers of a trial; its results may name those of the trial before."""

SEPARATOR = "/"
"""What Tune divides the names of nested parameters by."""


def param_space(space: Space | Any) -> dict[str, Any]:
    """Every gene of a space as a `tune.choice`, by its path: for any searcher.

    Tune has no conditional parameters, so a trial has values for branches, too, that its architecture has
    not. They change nothing: two trials that differ in them alone are one architecture, with one digest. A
    searcher that can ask question by question is better given `define_by_run`.

    Raises:
        SettingError: a path holds "/", by which Tune divides names.
    """
    return {path: tune.choice(labels) for path, labels in hyperparam_mutations(space).items()}


def hyperparam_mutations(space: Space | Any) -> dict[str, list[Any]]:
    """The options of every gene, as `PopulationBasedTraining` takes them: in the order of the space.

    The answers of two neighbours in it are each other's mutations.

    Raises:
        SettingError: a path holds "/".
    """
    options = {gene.path: list(gene.labels) for gene in as_space(space).genes}
    for path in options:
        if SEPARATOR in path:
            raise SettingError(
                f"Ray Tune divides names by {SEPARATOR!r}, so it cannot have the gene {path!r}"
            )
    return options


def define_by_run(space: Space | Any) -> DefineByRun:
    """A space for `OptunaSearch`, which asks only the questions of the branches that a trial has."""
    return DefineByRun(as_space(space).root)


@dataclass(frozen=True)
class DefineByRun:
    """The questions of an open configuration; a value that can be stored, since Tune stores its searcher."""

    root: Any

    def __call__(self, trial: Any) -> None:
        """Ask an `optuna.Trial`, outermost question first."""
        Space(self.root).draw(lambda path, labels: trial.suggest_categorical(path, labels))


def evaluation(study: Study, *, rungs: Sequence[int] = ()) -> type[tune.Trainable]:
    """A trainable that scores architectures as a study does, and reports its objectives by name.

    In iteration i the score is that after `rungs[i]` training steps; by default there is one iteration, of
    the study's `train_steps`. Where nothing is trained for a candidate (a supernet is read, say), rungs are
    iterations that report the same. What must be learned or measured before the first candidate is done now.

    A checkpoint of Tune holds the training of one architecture, which goes on exactly where it was. Where a
    scheduler mutates it (PBT), that is another network: it is trained by itself up to the rung, so that a
    score always belongs to an architecture and a number of steps.

    An architecture that the space forbids, that breaks a constraint or that cannot be scored is a trial
    that Tune records as failed.

    Raises:
        SettingError: rungs are no growing numbers of steps, or go past the study's `train_steps`.
    """
    judge = Judge.of(study)
    rungs = tuple(rungs) or (judge.steps,)
    if any(type(rung) is not int for rung in rungs) or list(rungs) != sorted({*rungs}) or rungs[0] < 1:
        raise SettingError(f"rungs are growing numbers of training steps such as (50, 100), got {rungs}")
    if judge.trains_each and rungs[-1] > judge.steps:
        raise SettingError(
            f"the last of the rungs {rungs} is past the {judge.steps} training steps of study {study.name}"
        )
    trainable: type[tune.Trainable] = tune.with_parameters(
        Architecture, judge=judge, rungs=rungs, kinds=own_kinds()
    )
    return trainable


class Architecture(tune.Trainable):
    """One trial of Tune: an architecture that is scored rung by rung; see `evaluation`."""

    def setup(  # type: ignore[override]  # by tune.with_parameters
        self, config: dict[str, Any], judge: Judge, rungs: tuple[int, ...], kinds: Kinds
    ) -> None:
        """Nothing is asked of the architecture yet: Tune tells an error here of the wrong trial."""
        register(kinds)
        self._judge, self._rungs = judge, rungs
        self._begin(config)

    def step(self) -> dict[str, Any]:
        """The values at the next rung."""
        genotype, spec = self._judge.answered(self._answers)
        steps = self._rungs[self._next]
        values = {**self._judge.costs(spec), **self._judge.score(spec, steps, self._folder)}
        self._next += 1
        outcome = {
            "genes": dict(genotype.genes),
            "values": {name: value.to_json() for name, value in values.items()},
            "started": self._started,
            "finished": time.time(),
            "worker": worker_name(),
        }
        numbers = {name: value.value for name, value in values.items()}
        ends = {tune.result.DONE: self._next == len(self._rungs)}
        return {**numbers, STEPS: steps, OUTCOME: json.dumps(outcome), **ends}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The architecture, its rung, and its training where there is one."""
        genotype, _ = self._judge.answered(self._answers)
        state = {"genes": dict(genotype.genes), "rung": self._next}
        write_json(Path(checkpoint_dir) / STATE, state)
        for file in self._folder.glob("*.safetensors"):
            shutil.copy2(file, checkpoint_dir)

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]  # as saved
        """Go on at the rung; with the training where the architecture is the one that was trained."""
        kept = Path(checkpoint_dir)
        state = read_json(kept / STATE)
        self._next = min(int(state["rung"]), len(self._rungs) - 1)
        shutil.rmtree(self._folder, ignore_errors=True)
        if Genotype(state["genes"]) == self._judge.answered(self._answers)[0]:
            self._folder.mkdir(parents=True)
            for file in kept.glob("*.safetensors"):
                shutil.copy2(file, self._folder)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Be another trial."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._started, self._next = time.time(), 0
        self._folder = Path(self.logdir) / "training"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._answers = config


def add_results(study: Study, results: Iterable[Any]) -> list[Trial]:
    """Take what Tune has scored into a study, as trials of its search; those that are new.

    Of trainings only those count that reached the study's `train_steps`: what a scheduler stopped before
    cannot be compared with the others. What Tune could not score is a failed trial with its reason. May be
    repeated: what is on record stays.

    Raises:
        StoreError: the study was opened for reading only.
    """
    judge = Judge.of(study)
    return take_up(study, [trial for result in results for trial in _trials_of(study, judge, result)])


def _trials_of(study: Study, judge: Judge, result: Any) -> Iterator[Trial]:
    frame = result.metrics_dataframe
    if frame is not None and OUTCOME in frame:
        for steps, text in zip(frame[STEPS], frame[OUTCOME], strict=True):
            if steps == judge.steps or not judge.trains_each:
                yield _complete(study, parse_json(text))
    if result.error is not None and (failed := _failed(study, judge, result)) is not None:
        yield failed


def _complete(study: Study, outcome: Any) -> Trial:
    return trial_of(
        study,
        Genotype(outcome["genes"]),
        by="ray tune",
        state=TrialState.COMPLETE,
        values={name: Value.from_json(value) for name, value in outcome["values"].items()},
        started=outcome["started"],
        finished=outcome["finished"],
        worker=outcome["worker"],
    )


def _failed(study: Study, judge: Judge, result: Any) -> Trial | None:
    """The trial that ended in an error; None where its answers are none to the questions of the space."""
    try:
        config = read_json(Path(result.path) / PARAMS)
        config = result.config or read_json(Path(result.path) / "params.json")
        genotype, _ = judge.space.draw(lambda path, labels: option_of(path, labels, config[path]))
    except (FileError, IllegalArchitecture, KeyError):
        return None
    lines = [line for line in str(result.error).splitlines() if line.strip()]
    reason = cut_line(lines[-1] if lines else type(result.error).__name__)
    now = time.time()
    return trial_of(
        study,
        genotype,
        by="ray tune",
        state=TrialState.FAILED,
        reason=reason,
        started=now,
        finished=now,
    )
