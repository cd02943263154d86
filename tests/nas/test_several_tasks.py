"""Studies of several tasks: trainings of their own, a shared one, gates, and settings of single tasks."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from evaluators.scoring.base import Score
from evaluators.scoring.best_of_rates import RATE, BestOfRates
from evaluators.scoring.scratch import FromScratch
from evaluators.tasks.base import IGNORED
from evaluators.tasks.recall import Recall
from evaluators.tasks.shared import SharedTraining
from foundation.errors import EvaluationFailed, SettingError, SpaceError, UnknownName
from nas.executors.base import Gate, WorkItem, score_item
from nas.store import Store
from nas.study.constraints import Constraint
from nas.study.facts import SUPERNET
from nas.study.state import state_of
from nas.study.study import Study
from nas.study.tally import require_scored, tally_of
from nas.study.trial import TrialState, Value
from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from tests.evaluators.tiny import WORDS

TASKS = {"recall.pairs": 2, "recall.length": 9, "recall.sequences": 50, "recall.windows": 8}
SPACE = Space(
    Decoder(
        vocab=256,
        d_model=8,
        layers=repeat(
            Layer(sequence_mixer=RGLRU(), channel_mixer=SwiGLU(expansion=one_of(1, 2, 3))), depths=(1, 2)
        ),
    ),
    name="several",
)


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A search of four trials in this folder, on a little text; returns the study."""
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text(" ".join(WORDS * 900))

    def run(**settings: Any) -> Study:
        asked: dict[str, Any] = {
            "objectives": ["bits_per_byte", "recall_error", "params"],
            "evaluator": "scratch",
            "strategy": "random",
            "trials": 4,
            "train_steps": 2,
            "train_batch": 4,
            "window": 16,
            "validation_windows": 4,
            "task_settings": TASKS,
            "finalists": 0,
            "profile_seconds": 0.0,
            "data": str(text),
        }
        return nas.search(SPACE, name="a", store=tmp_path / "s.db", progress=False, **{**asked, **settings})

    return run


def test_each_task_has_a_training_of_its_own(searched: Any) -> None:
    study = searched(finalists=1, finalist_steps=(3,))
    assert [score.name for score in study.scores] == ["bits_per_byte", "recall_error"]
    assert study.quality.name == "bits_per_byte"
    for trial in [*study.complete(), *study.trials("final")]:
        assert trial.state is TrialState.COMPLETE
        assert len(trial.values["bits_per_byte"].samples) == 4
        assert len(trial.values["recall_error"].samples) == 8
    page = study.report().read_text()
    assert "recall error" in page
    assert "bits per byte" in page
    trainings = len({trial.digest for trial in study.trials()}) * 2
    finals = 2  # of the finalist, which goes on from its two checkpoints
    assert len(list((study.folder / "scratch").glob("*-2.safetensors"))) == trainings - finals
    assert len(list((study.folder / "scratch").glob("*-3.safetensors"))) == finals


def test_what_meets_a_gate_is_trained_no_further_and_counts(searched: Any) -> None:
    study = searched(objectives=["bits_per_byte", "params"], constraints=["recall_error<0"])
    for trial in study.trials():
        assert trial.state is TrialState.INFEASIBLE
        assert trial.reason == "recall_error is 1, not recall_error<0"
        assert trial.counts
        assert "recall_error" in trial.values
        assert "params" in trial.values
        assert "bits_per_byte" not in trial.values
    distinct = {trial.digest for trial in study.trials()}
    before = [trial.digest for trial in study.trials()]
    assert len(before) == 4
    assert len(list((study.folder / "scratch").iterdir())) == len(distinct)  # nothing of the text
    assert tally_of(study).problems == ["4 of 4 candidates did not pass a gate"]
    assert state_of(study, study.store.counts(study.record)) == (
        "failed",
        "none of 4 candidates passed the gate",
    )
    with pytest.raises(EvaluationFailed, match="none of 4 candidates passed the gate recall_error<0"):
        require_scored(study)
    again = searched(objectives=["bits_per_byte", "params"], constraints=["recall_error<0"], trials=6)
    assert len(again.trials()) == 6
    assert [trial.digest for trial in again.trials()[:4]] == before


def test_what_passes_a_gate_is_scored_but_the_gate_is_not_traded_off(searched: Any) -> None:
    study = searched(objectives=["bits_per_byte", "params"], constraints=["recall_error<=1", "params<2M"])
    trials = study.complete()
    assert len(trials) == len({trial.digest for trial in study.trials()})
    assert all(trial.values["recall_error"].value <= 1 for trial in trials)
    assert all(len(point) == 2 for point in study.points(trials))


def test_a_gate_may_be_all_that_is_learned(searched: Any) -> None:
    study = searched(objectives=["params"], constraints=["recall_error<=1"], data=None)
    assert study.quality.name == "recall_error"
    assert len(study.front()) == 1


def test_a_shared_training_is_done_once_and_scored_for_each_task(searched: Any) -> None:
    study = searched(shared_training=True)
    distinct = {trial.digest for trial in study.complete()}
    assert len(list((study.folder / "scratch").iterdir())) == len(distinct)
    assert all({"bits_per_byte", "recall_error"} <= set(trial.values) for trial in study.complete())


@pytest.mark.parametrize(("shared", "supernets"), [(False, 2), (True, 1)])
def test_supernets_are_trained_for_each_task_or_for_all(searched: Any, shared: bool, supernets: int) -> None:
    study = searched(evaluator="supernet", shared_training=shared)
    weights = {path: path.stat().st_mtime_ns for path in (study.folder / "supernet").rglob("*.safetensors")}
    assert len(weights) == supernets
    assert (f"{SUPERNET} of recall_error" in study.facts) is not shared
    assert all({"bits_per_byte", "recall_error"} <= set(trial.values) for trial in study.complete())
    again = searched(evaluator="supernet", shared_training=shared, trials=5)
    assert len(again.trials()) == 5
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


def test_settings_of_a_task_are_typed_and_come_back(searched: Any, tmp_path: Path) -> None:
    written = {name: str(value) for name, value in TASKS.items()}
    study = searched(task_settings={**written, "recall.steps": "5"}, trials=1)
    assert study.plan.task_settings == {**TASKS, "recall.steps": 5}
    assert list((study.folder / "scratch").glob("*-5.safetensors"))
    again = searched(task_settings={**TASKS, "recall.steps": 5}, trials=2)
    assert len(again.trials()) == 2
    with pytest.raises(SettingError, match="choose another name"):
        searched(task_settings={**TASKS, "recall.steps": 6})


def test_the_best_of_several_rates_is_recorded(searched: Any) -> None:
    study = searched(
        objectives=["recall_error", "params"], task_settings={**TASKS, "recall.rates": 2}, data=None
    )
    for trial in study.complete():
        value = trial.values["recall_error"]
        rates = {name: figure for name, figure in value.figures.items() if name.startswith(f"{RATE} ")}
        assert list(rates) == ["rate 1", "rate 3.16"]
        assert value.value == min(rates.values()) == rates[f"rate {value.figures[RATE]:g}"]


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"task_settings": {"recal.pairs": 8}}, UnknownName, "has no task 'recal'; did you mean 'recall'"),
        ({"task_settings": {"recall.pears": 8}}, UnknownName, "no setting 'pears'; did you mean 'pairs'"),
        ({"task_settings": {"recall.pairs": 0}}, SettingError, "recall: pairs must be at least 1, got 0"),
        ({"task_settings": {"recall.pairs": 8, "recall.length": 9}}, SettingError, "room for 1 to 3 pairs"),
        ({"task_settings": {"recall": 8}}, SettingError, "write TASK.SETTING=VALUE"),
        ({"task_settings": {"recall.rates": 99}}, SettingError, "rates must be at most 9, got 99"),
        (
            {"task_settings": {"recall.tokens": 512}},
            SpaceError,
            "vocab is 256, and the task recall needs",
        ),
        ({"task_settings": {"language.tokens": 8}}, UnknownName, "task language has no setting 'tokens'"),
        ({"objectives": ["recall_error"], "shared_training": True}, SettingError, "needs several objectives"),
        ({"task_settings": {"recall.steps": 3}, "shared_training": True}, SettingError, "no steps or rates"),
        ({"task_settings": {"recall.rates": 2}, "evaluator": "supernet"}, SettingError, "several times"),
        ({"engine": "exact", "evaluator": "supernet", "strategy": "auto"}, SettingError, "score of one task"),
        ({"supernet": "there", "evaluator": "supernet"}, SettingError, "has learned one task"),
        (
            {"scheduler": "halving", "constraints": ["recall_error<0.5"]},
            SettingError,
            r"needs candidates that are trained equally long for recall: set task_settings='recall.steps=N'",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    searched: Any, tmp_path: Path, settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as refused:
        searched(**settings)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "s.db").exists() or Store(tmp_path / "s.db").studies() == []


def test_a_gate_keeps_the_values_up_to_it() -> None:
    asked = list[str]()

    def scorer(name: str, value: float) -> Any:
        def score(spec: Any, steps: int, seed: int) -> Value:
            asked.append(name)
            return Value(value)

        return score

    gate = Gate(scorer("b", 0.5), (Constraint("b", "<", 0.1),))
    assert pickle.loads(pickle.dumps(gate.bounds)) == gate.bounds  # it travels to workers
    scorers = {"a": scorer("a", 1.0), "b": gate, "c": scorer("c", 2.0)}
    outcome = score_item(scorers, WorkItem(0, None, 1, 0))
    assert outcome.state is TrialState.INFEASIBLE
    assert outcome.reason == "b is 0.5, not b<0.1"
    assert {name: value.value for name, value in outcome.values.items()} == {"a": 1.0, "b": 0.5}
    assert asked == ["a", "b"]
    assert (
        score_item({**scorers, "b": scorer("b", 0.5)}, WorkItem(0, None, 1, 0)).state is TrialState.COMPLETE
    )


def test_tasks_that_share_a_training_take_turns() -> None:
    short = Recall(tokens=16, length=9, pairs=2, sequences=50, windows=8)
    long = Recall(tokens=32, length=12, pairs=3, sequences=50, windows=4)
    first, second = (SharedTraining((short, long), judged) for judged in (0, 1))
    assert first == second
    assert first.digest == second.digest != SharedTraining((long, short)).digest
    assert (first.vocab, first.length) == (32, 12)
    assert (first.windows, second.windows) == (8, 4)
    for step in range(4):
        part = (short, long)[step % 2]
        tokens, targets = first.train_batch(step, 3, 5)
        own_tokens, own_targets = part.train_batch(step // 2, 3, 5)
        assert tokens.shape == targets.shape == (5, 12)
        assert torch.equal(tokens[:, : part.length], own_tokens)
        assert torch.equal(targets[:, : part.length], own_targets)
        assert (targets[:, part.length :] == IGNORED).all()
    assert torch.equal(second.validation()[0], long.validation()[0])
    with pytest.raises(SettingError, match="shared by several tasks, got 1"):
        SharedTraining((short,))


def test_a_rate_that_diverges_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def score(self: FromScratch, *args: Any, **more: Any) -> Score:
        if self.recipe.rate > bound:
            raise EvaluationFailed("the loss is nan")
        return Score(self.recipe.rate, 0.0, (self.recipe.rate,) * 2)

    monkeypatch.setattr(FromScratch, "score", score)
    evaluator, spec = BestOfRates(Recall(), rates=3), None
    bound = 2.0
    figures = evaluator.score(spec, 1, 0).figures  # type: ignore[arg-type]  # not looked at
    assert figures == {"rate": 0.316, "rate 0.316": 0.316, "rate 1": 1.0}
    bound = 0.0
    with pytest.raises(EvaluationFailed, match="at each of 3 learning rates: the loss is nan"):
        evaluator.score(spec, 1, 0)  # type: ignore[arg-type]  # not looked at


def test_steps_left_are_those_of_all_rates_that_have_no_checkpoint(tmp_path: Path) -> None:
    task = Recall(pairs=2, length=9, sequences=20, windows=4)
    layer = Layer(sequence_mixer=RGLRU(), channel_mixer=SwiGLU())
    spec = Decoder(vocab=task.vocab, d_model=8, layers=(layer,))
    evaluator = BestOfRates(task, checkpoints=str(tmp_path), batch=2, rates=2)
    assert evaluator.steps_left(spec, 3, 0) == 6
    evaluator.trained_model(spec, 2, 0)
    assert evaluator.steps_left(spec, 2, 0) == 0
