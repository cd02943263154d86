"""Studies whose scheduler trains candidates rung by rung: weights, front, checkpoints, and what is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import nas
from dashboards.facts import read_facts
from dashboards.facts.progress import state_of
from dashboards.facts.reading import Reading
from dashboards.report.study import report_html
from evaluators.scoring.scratch import FromScratch
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from evaluators.training.schedules.linear import Linear
from evaluators.training.schedules.trapezoid import Trapezoid
from foundation.errors import SettingError
from nas.cli import app
from nas.executors.local import InProcess
from nas.progress import Progress, Terminal
from nas.replay import replay_study
from nas.store import Store
from nas.study.export import best_weights
from nas.study.rungs import rung_lines, rungs_of
from nas.study.study import Study, open_study
from nas.study.tally import tally_of
from nas.study.trial import Trial, TrialState
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import save_model
from tests.evaluators.tiny import task

SPEC = Decoder(vocab=256, d_model=8, layers=(Layer(sequence_mixer=ShortConv()),))
SCHEDULES = (InverseSqrt(warm_up=2, constant=3), Linear(warm_up=2), Trapezoid(warm_up=2, cool_down=0.5))


def scratch(folder: Path, schedule: Any, horizon: int | None = 12) -> FromScratch:
    return FromScratch(task(folder.parent), str(folder), 4, Recipe(schedule=schedule), horizon=horizon)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_a_training_looked_at_on_its_way_does_no_step_twice_and_ends_as_one_that_was_not(
    schedule: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scratch(tmp_path / "whole", schedule, None).score(SPEC, 12, seed=1)
    done = list[int]()
    advance = NetworkTraining.advance

    def counting(self: NetworkTraining) -> Any:
        done.append(self.step + 1)
        return advance(self)

    monkeypatch.setattr(NetworkTraining, "advance", counting)
    rungs = [scratch(tmp_path / "rungs", schedule).score(SPEC, steps, seed=1) for steps in (3, 7, 12)]
    assert done == list(range(1, 13))
    assert rungs[-1].samples == whole.samples
    assert len({score.value for score in rungs}) == 3


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.name)
def test_what_is_forgotten_is_this_training_up_to_the_step(schedule: Any, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    evaluator, other = scratch(folder, schedule), replace(SPEC, d_model=16)
    for spec in (SPEC, other):
        evaluator.score(spec, 7, seed=1)
    kept = set(folder.iterdir())
    evaluator.forget(SPEC, 3, seed=1)
    evaluator.forget(SPEC, 7, seed=2)
    assert {path for path in kept if path.exists()} >= {path for path in kept if path.stem.endswith("-7")}
    evaluator.forget(SPEC, 7, seed=1)
    left = {path for path in kept if path.exists()}
    assert 0 < len(left) < len(kept)
    evaluator.forget(other, 7, seed=1)
    assert not list(folder.iterdir())


def space() -> Space:
    layer = Layer(
        sequence_mixer=ShortConv(kernel=one_of(2, 3, 4)), channel_mixer=SwiGLU(expansion=one_of(1, 2))
    )
    return Space(Decoder(vocab=256, d_model=one_of(8, 12, 16, 20), layers=(layer,)), name="little")


def search(folder: Path, **settings: Any) -> Study:
    asked: dict[str, Any] = {
        "objectives": ["bits_per_byte", "params"],
        "evaluator": "scratch",
        "scheduler": "halving",
        "train_steps": 9,
        "train_batch": 2,
        "validation_windows": 4,
        "trials": 18,
        "strategy": "random",
        "finalists": 0,
        **settings,
    }
    text = folder / "text.txt"
    text.write_text("".join(f"line {i}: {i * i} is the square of {i}\n" for i in range(900)))
    data = {"data": str(text), "window": 16}
    return nas.search(space(), name="s", store=folder / "s.db", progress=False, **data, **asked)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return search(tmp_path_factory.mktemp("rungs"))


def new(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.reused is None]


def test_the_front_is_of_those_who_were_trained_to_the_end(searched: Study) -> None:
    at = Counter(trial.fidelity.steps for trial in new(searched.trials()))
    assert at[3] == at[1] // 3
    assert at[9] == at[3] // 3
    assert {trial.fidelity.steps for trial in searched.front()} == {9}
    assert searched.best("params").fidelity.steps == 9
    assert len(searched.comparable()) == at[9]
    assert len(searched.complete()) == at[1]


def test_only_weights_with_prospects_are_kept(searched: Study) -> None:
    at = Counter(trial.fidelity.steps for trial in new(searched.trials()))
    files = list((searched.folder / "scratch").glob("*.safetensors"))
    assert at[9] <= len(files) <= at[3] + at[9] + 3
    assert sum(path.stem.endswith("-9") for path in files) == at[9]
    trial = searched.comparable()[0]
    model, about = best_weights(searched, trial)
    assert about["weights"] == "trained from scratch for 9 steps"
    assert model.spec == searched.spec(trial)


def test_weights_that_were_not_kept_are_trained_again_which_is_told_before(
    searched: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, kept = searched.comparable()[0], searched.folder / "scratch"
    files = {path: path.read_bytes() for path in kept.glob("*-9.safetensors")}
    model, _ = best_weights(searched, trial, progress=Terminal())
    assert capsys.readouterr().err == ""
    for path in files:
        path.unlink()
    before = sorted(kept.iterdir())
    again, _ = best_weights(searched, trial, progress=Terminal(), scratch=tmp_path / "apart")
    assert "trained again, 9 steps, about" in " ".join(capsys.readouterr().err.split())
    assert sorted(kept.iterdir()) == before
    assert all(a.equal(b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    for path, content in files.items():
        path.write_bytes(content)


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_a_folder_that_cannot_be_written_is_refused_before_weights_are_trained_again(
    command: str, searched: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, taken = tmp_path / "other", tmp_path / "taken"
    other.mkdir()
    (other / "notes").write_text("mine")
    save_model(build(searched.spec(searched.comparable()[0]), seed=1), taken)
    monkeypatch.setattr(FromScratch, "trained_model", lambda *_: pytest.fail("weights were asked for"))
    words = [command, "s", searched.comparable()[0].digest, "--store", str(searched.folder.parent / "s.db")]
    for output, message in (
        (["-o", str(other)], "holds no exported model"),
        (["-o", str(taken)], "holds an exported model: choose another folder"),
        ([], "name the folder"),
    ):
        done = CliRunner().invoke(app, [*words, *output])
        assert message in f"{done.exception} {done.output}"


@pytest.mark.parametrize("command", ["train", "adapt"])
def test_a_dry_run_needs_no_weights(command: str, searched: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FromScratch, "trained_model", lambda *_: pytest.fail("weights were asked for"))
    words = [command, "s", searched.comparable()[0].digest, "--store", str(searched.folder.parent / "s.db")]
    done = CliRunner().invoke(app, [*words, "--dry-run"])
    assert done.exit_code == 0, f"{done.exception} {done.output}"
    assert {"train": "one process", "adapt": "adapt:"}[command] in done.output


def test_the_rungs_are_counted_compared_and_on_record(searched: Study) -> None:
    at = Counter(trial.fidelity.steps for trial in new(searched.trials()))
    reports = rungs_of(searched)
    assert [(each.steps, each.scored) for each in reports] == sorted(at.items())
    assert reports[0].promoted == at[3]
    assert reports[-1].promoted == 0
    assert searched.facts["rungs"] == {str(each.steps): each.to_json() for each in reports}
    first, *others = rung_lines(reports)
    assert first.startswith(f"trained in rungs: {at[1]} candidates after 1 steps, {at[3]} candidates after 3")
    assert len(others) == 2
    assert "too few to compare" in others[-1]
    tally = tally_of(searched)
    assert (tally.scored, tally.distinct) == (18, at[1])
    with Store(searched.store.url.removeprefix("sqlite:///"), read_only=True) as store:
        assert store.counts(searched.record) == {TrialState.COMPLETE: 18}


def test_a_study_without_a_trial_has_no_rungs(tmp_path: Path) -> None:
    """Such as one that was killed while its table was made."""
    assert rungs_of(search(tmp_path, trials=0, rungs=())) == []


def test_every_promotion_can_be_derived_again(searched: Study) -> None:
    replayed = replay_study(searched, Progress())
    assert (replayed.equal, replayed.differs) == (len(searched.trials()), "")


def test_report_and_dashboard_tell_them_and_draw_whole_trainings_only(searched: Study) -> None:
    facts = read_facts(searched)
    assert {network.number for network in facts.front} == {trial.number for trial in searched.front()}
    assert facts.scored == 18
    assert rung_lines(rungs_of(searched))[0] in report_html(facts)
    live = Reading(searched)
    live.refresh()
    assert (live.done, state_of(live)[0]) == (18, "complete")
    assert {trial.number for trial in live.members} == {trial.number for trial in searched.front()}


def test_more_than_six_in_both_rungs_have_an_agreement_with_its_interval(tmp_path: Path) -> None:
    first = rungs_of(search(tmp_path, rungs=[3], keep=0.9, trials=12))[0]
    assert first.promoted >= 6
    assert first.agreement is not None
    assert -1 <= first.agreement.low <= first.agreement.value <= first.agreement.high <= 1
    assert "Kendall's tau" in rung_lines(rungs_of(open_study("s", tmp_path / "s.db")))[1]


def test_a_search_is_not_done_while_promotions_are_owed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    collect, last = InProcess.collect, list[int]()

    def until_the_last(self: InProcess, *seconds: float) -> Any:
        last.append(self._waiting[0].steps)
        if last.count(9) == 2:
            raise KeyboardInterrupt
        return collect(self, *seconds)

    monkeypatch.setattr(InProcess, "collect", until_the_last)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, strategy="auto")
    monkeypatch.undo()
    assert sum(not trial.goes_on for trial in open_study("s", tmp_path / "s.db").trials()) == 18
    study = search(tmp_path, strategy="auto")
    at = Counter(trial.fidelity.steps for trial in new(study.trials()))
    assert (at[1], at[3], at[9]) == (18, 6, 2)
    assert {trial.state for trial in study.trials()} == {TrialState.COMPLETE}


def test_a_supernet_has_no_rungs(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="scheduler halving trains each candidate for a time of its own"):
        search(tmp_path, evaluator="supernet")
