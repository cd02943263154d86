"""Ray Tune, the real one, drives spaces and evaluators of ours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

import nas
from foundation.errors import EvaluationFailed, IllegalArchitecture, SettingError, StoreError
from nas.study.trial import TrialState
from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from tests.nas.toys import rich, small, toy_space

pytest.importorskip("ray.tune")

from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining
from ray.tune.search.optuna import OptunaSearch

from nas.executors import ray_start
from nas.interop.judge import take_up
from nas.interop.tune import (
    OUTCOME,
    add_results,
    define_by_run,
    evaluation,
    hyperparam_mutations,
    param_space,
)

WIDE = "layers.0.channel_mixer.expansion"


def tiny_space() -> Space:
    mixer = Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8)
    layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=one_of(1, 2)))
    return Space(Decoder(vocab=64, d_model=16, layers=repeat(layer, (1, 2))), name="tiny")


def trained(folder: Path, **settings: Any) -> Any:
    """A study whose networks are trained for a moment."""
    plan: dict[str, Any] = {
        "objectives": ["recall_error", "params"],
        "evaluator": "scratch",
        "train_steps": 8,
        "train_batch": 4,
        "window": 16,
        "validation_windows": 8,
        "trials": 0,
        "finalists": 0,
    }
    return nas.search(
        tiny_space(), name="tuned", store=folder / "s.db", progress=False, **{**plan, **settings}
    )


def toys(folder: Path) -> Any:
    settings: dict[str, Any] = {"trials": 0, "finalists": 0, "progress": False}
    return nas.search(toy_space(), name="toys", objectives=[small, rich], store=folder / "s.db", **settings)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trainables that are made in this process, without Ray, keep their files here."""
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "tune"))
    return tmp_path


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as files:
        folder = ray_start.start(2, Path(files))
        yield
        ray_start.end(folder)


def answers(**changed: Any) -> dict[str, Any]:
    least = {gene.path: gene.labels[0] for gene in tiny_space().genes}
    return {**least, **changed}


def test_a_space_has_every_gene_as_a_parameter() -> None:
    space = toy_space()
    choices = param_space(space)
    assert {path: tuple(choice.categories) for path, choice in choices.items()} == {
        gene.path: gene.labels for gene in space.genes
    }
    assert hyperparam_mutations(space)["@shared"] == [0, 1, 2]


def test_by_run_only_the_questions_of_a_branch_are_asked() -> None:
    space = toy_space()
    ask, study = define_by_run(space), optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for _ in range(10):
        trial = study.ask()
        ask(trial)
        genotype, _ = space.draw(lambda path, labels, given=trial.params: given[path])
        assert dict(genotype.genes) == trial.params


def test_answers_to_what_is_not_asked_change_nothing_and_numbers_may_be_numpys(here: Path) -> None:
    make = evaluation(trained(here))
    first = make(answers(layers=1))
    second = make({path: np.int64(label) for path, label in answers(layers=1).items()})
    third = make({**answers(layers=1), "layers.1.channel_mixer.expansion": 2})
    results = [trainable.train() for trainable in (first, second, third)]
    genes = [json.loads(result[OUTCOME])["genes"] for result in results]
    assert genes[0] == genes[1] == genes[2]
    assert len({result["recall_error"] for result in results}) == 1


def test_a_checkpoint_goes_on_exactly_where_it_was(here: Path) -> None:
    make = evaluation(trained(here), rungs=(2, 5, 8))
    whole, first = make(answers()), make(answers())
    values = [json.loads(whole.train()[OUTCOME])["values"]["recall_error"] for _ in range(3)]
    first.train()
    (here / "kept").mkdir()
    first.save_checkpoint(str(here / "kept"))
    assert {path.suffix for path in (here / "kept").iterdir()} == {".json", ".safetensors"}
    second = make(answers())
    second.load_checkpoint(str(here / "kept"))
    assert any(second._folder.iterdir())
    for value, last in zip(values[1:], (False, True), strict=True):
        result = second.train()
        assert json.loads(result[OUTCOME])["values"]["recall_error"] == value
        assert result["done"] is last


def test_a_mutated_architecture_is_trained_by_itself_up_to_the_rung(here: Path) -> None:
    make = evaluation(trained(here), rungs=(2, 5, 8))
    donor, mutated, fresh = make(answers()), make(answers(**{WIDE: 2})), make(answers(**{WIDE: 2}))
    donor.train()
    (here / "kept").mkdir()
    donor.save_checkpoint(str(here / "kept"))
    mutated.load_checkpoint(str(here / "kept"))
    fresh.train()
    got, expected = (json.loads(each.train()[OUTCOME]) for each in (mutated, fresh))
    assert got["values"] == expected["values"]
    assert got["genes"][WIDE] == 2
    assert mutated.reset_config(answers())
    assert mutated.train()["steps"] == 2


@pytest.mark.parametrize("rungs", [(0, 4), (4, 4), (8, 2), (2.5,), (True,), (4, 9)])
def test_rungs_that_make_no_sense_are_refused(rungs: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="rungs"):
        evaluation(trained(tmp_path), rungs=rungs)


def test_what_the_space_or_a_constraint_forbids_fails(here: Path) -> None:
    make = evaluation(trained(here, constraints=["params<3500"]))
    with pytest.raises(IllegalArchitecture, match="has no answer"):
        make({}).train()
    with pytest.raises(IllegalArchitecture, match="not 7"):
        make(answers(**{WIDE: 7})).train()
    with pytest.raises(EvaluationFailed, match="params"):
        make(answers(layers=2)).train()


def driven(study: Any, folder: Path, rungs: tuple[int, ...], **settings: Any) -> Any:
    """What Tune scores with these settings, by one actor, used again: they take seconds to start."""
    params = settings.pop("param_space", param_space(study.space))
    return tune.Tuner(
        tune.with_resources(evaluation(study, rungs=rungs), {"cpu": 2}),
        param_space=params,
        tune_config=tune.TuneConfig(mode="min", reuse_actors=True, **settings),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()


def test_asha_stops_trials_early(cluster: None, tmp_path: Path) -> None:
    study = toys(tmp_path)
    asha = ASHAScheduler(max_t=4, grace_period=1, reduction_factor=2)
    same = {f"stack.{place}": "Deep" for place in range(3)}  # then only the depth counts, and grows
    params = {**param_space(study.space), **same, "stack": tune.grid_search([1, 2, 3])}
    results = driven(study, tmp_path, (1, 2, 3, 4), metric="small", scheduler=asha, param_space=params)
    assert not results.errors
    reached = [len(result.metrics_dataframe) for result in results]
    assert max(reached) == 4
    assert min(reached) < 4
    best = results.get_best_result(metric="small", mode="min").metrics
    assert best["small"] == min(result.metrics["small"] for result in results)
    taken = add_results(study, results)
    assert {trial.digest for trial in taken} == {trial.digest for trial in study.complete()}
    assert all(trial.values["small"].value == small(study.spec(trial)) for trial in taken)


@pytest.mark.slow
def test_pbt_mutates_genes_and_every_score_is_that_of_its_architecture(cluster: None, tmp_path: Path) -> None:
    study = toys(tmp_path)
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        perturbation_interval=1,
        quantile_fraction=0.5,
        resample_probability=1.0,
        hyperparam_mutations=hyperparam_mutations(study.space),
        synch=True,
    )
    results = driven(study, tmp_path, (1, 2, 3), metric="rich", scheduler=scheduler, num_samples=2)
    assert not results.errors
    taken = add_results(study, results)
    assert len(taken) > 2, "nothing was mutated"
    assert all(trial.values["rich"].value == rich(study.spec(trial)) for trial in taken)


@pytest.mark.slow
def test_asha_trains_and_what_failed_is_told(cluster: None, tmp_path: Path) -> None:
    study = trained(tmp_path, constraints=["params<5000"])
    params = {**param_space(study.space), "layers": tune.grid_search([1, 2])}
    asha = ASHAScheduler(max_t=3, grace_period=1, reduction_factor=2)
    results = driven(
        study, tmp_path, (1, 2, 8), metric="params", scheduler=asha, param_space=params, num_samples=3
    )
    reached = [len(result.metrics_dataframe) for result in results if result.error is None]
    taken = add_results(study, results)
    assert [trial.number for trial in taken] == list(range(len(taken)))
    complete = [trial for trial in taken if trial.state is TrialState.COMPLETE]
    assert 1 <= len(complete) <= reached.count(3)
    assert all(trial.values["recall_error"].source == "scratch" for trial in complete)
    failed = [trial for trial in taken if trial.state is TrialState.FAILED]
    assert {len(study.spec(trial).layers) for trial in failed} == {2}
    assert all("params" in str(trial.reason) for trial in failed)
    assert {trial.digest for trial in add_results(study, results)} <= {trial.digest for trial in failed}
    with pytest.raises(StoreError):
        take_up(nas.open("tuned", tmp_path / "s.db"), [replace(taken[0], seed=7)])


@pytest.mark.slow
def test_a_searcher_asks_question_by_question(cluster: None, tmp_path: Path) -> None:
    study = toys(tmp_path)
    searcher = OptunaSearch(define_by_run(study.space), metric="rich", mode="min", seed=0)
    results = driven(study, tmp_path, (), metric="rich", search_alg=searcher, num_samples=6, param_space=None)
    assert not results.errors
    for result in results:
        assert result.config == json.loads(result.metrics[OUTCOME])["genes"]
    assert add_results(study, results)
