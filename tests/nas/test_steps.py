"""Steps: what each needs exists, each is done once, and a stopped study continues to the same result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import CycleError
from pathlib import Path
from typing import Any

import pytest

from foundation.errors import SettingError, UnknownName
from foundation.registry import Registry
from nas.executors.base import Executor, Say, Scorer
from nas.executors.workers import Workers
from nas.progress import Progress, ProgressBar
from nas.steps.base import Context, Step, computed_once, in_order, run_steps, steps
from nas.study.creation import create_study
from nas.study.facts import CORPUS, OUTCOME, PREPARED, SUPERNET, TABLES
from nas.study.plan import Plan
from nas.study.study import Study
from nas.study.trial import STAGES
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from tests.nas.test_crash import write_text
from tests.nas.toys import rich, small, toy_space

LAYER = Layer(
    sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=1, head_dim=8), ShortConv()),
    channel_mixer=SwiGLU(expansion=one_of(1, 2)),
)
SPACE = Space(Decoder(d_model=one_of(8, 16), layers=repeat(LAYER, (1, 2))), name="tiny")
EXAMPLE = Plan(
    objectives=("bits_per_byte", "decode_ms"),
    roofline="xeon-1-thread",
    train_steps=4,
    train_batch=2,
    window=16,
    validation_windows=4,
    trials=6,
    finalists=2,
    finalist_steps=(2, 4),
    strategy="random",
    baselines=("zoo:transformer", "zoo:lfm2"),
    final_seeds=2,
    then=("prune,pattern=2:4,calibration=2", "quantize,method=nearest"),
)
ORDER = ["corpus", "profile", "train", "search", "measure", "finalists", "baselines", "repeats", "modify"]
ELSEWHERE = "measure"
"""The step that has nothing to do here, because the example's latencies are those of a device card."""


class Interrupted(Exception):
    """Where a kill is simulated."""


class Interrupting(Progress):
    """Counts the updates of all progress bars, and stops the program at one of them."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.updates, self.titles = at, 0, list[str]()

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[ProgressBar]:
        self.titles.append(title)
        yield InterruptingPhase(self)


class InterruptingPhase(ProgressBar):
    def __init__(self, progress: Interrupting) -> None:
        self.progress = progress

    def update(self, done: int, note: str = "") -> None:
        self.progress.updates += 1
        if self.progress.updates == self.progress.at:
            raise Interrupted


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps") / "text"
    write_text(folder)
    return folder


def example(folder: Path, text: Path, **changes: Any) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan.from_plain({**EXAMPLE.to_plain(), "data": str(text), **changes})
    return create_study(SPACE, plan, name="s", store=folder / "s.db")


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Context, Interrupting]:
    """A study that was never stopped, and the progress that it made."""
    progress = Interrupting()
    context = Context(study=example(tmp_path_factory.mktemp("whole"), text), progress=progress)
    run_steps(context)
    return context, progress


def results(study: Study) -> dict[str, Any]:
    """All that does not depend on the clock."""
    trials = [trial for stage in STAGES for trial in study.trials(stage)]
    facts = study.facts
    return {
        "trials": [
            (t.stage, t.number, t.genotype, t.state, t.fidelity, t.values, dict(t.memo), t.reused)
            for t in trials
        ],
        "corpus": facts[CORPUS],
        "losses": facts[SUPERNET]["loss"],
    }


def test_steps_are_in_files_of_their_names_and_what_they_need_exists() -> None:
    assert set(ORDER) <= set(steps)
    for name, kind in steps.items():
        assert kind.__module__ == f"nas.steps.{name}"
        assert set(kind.needs) < set(steps)


def test_every_step_comes_after_those_that_it_needs() -> None:
    order = [step.name for step in in_order(steps)]
    assert [name for name in order if name in ORDER] == ORDER
    for step in in_order(steps):
        assert all(order.index(need) < order.index(step.name) for need in step.needs)


def registry(*kinds: type[Step]) -> Registry[type[Step]]:
    made = Registry[type[Step]]("step")
    for kind in kinds:
        made.add(kind)
    return made


def kind_of_step(of_name: str, *needed: str) -> type[Step]:
    class Made(Step):
        name = of_name
        needs = needed

        def done(self, context: Context) -> bool:
            return False

        def run(self, context: Context) -> None:
            pass

    return Made


def test_needs_that_do_not_exist_or_go_round_in_a_circle_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'first'"):
        in_order(registry(kind_of_step("first"), kind_of_step("second", "frist")))
    with pytest.raises(CycleError):
        in_order(registry(kind_of_step("first", "second"), kind_of_step("second", "first")))


def test_all_steps_are_done_at_the_end_and_nothing_is_done_twice(
    whole: tuple[Context, Interrupting],
) -> None:
    context, _ = whole
    before = results(context.study)
    again = Context(study=context.study, progress=Interrupting(at=1))
    for step in in_order(steps):
        assert step.wanted(context.plan) or step.name not in ORDER
        assert step.done(context) == step.done(again) == (step.name != ELSEWHERE), step.name
    run_steps(again)  # would be interrupted at once, were anything left to do
    assert results(context.study) == before


def open_steps(context: Context) -> list[str]:
    return [step.name for step in in_order(steps) if step.wanted(context.plan) and not step.done(context)]


@pytest.mark.parametrize("last", ORDER[:-1])
def test_a_study_that_is_stopped_after_a_step_goes_on_to_the_same_result(
    last: str, whole: tuple[Context, Interrupting], text: Path, tmp_path: Path
) -> None:
    study = example(tmp_path, text)
    run_steps(Context(study=study), ORDER[: ORDER.index(last) + 1])
    study.store.close()
    taken_up = example(tmp_path, text)
    context = Context(study=taken_up)
    following = ORDER[ORDER.index(last) + 1] if last != "search" else "finalists"
    assert next(name for name in open_steps(context) if name != ELSEWHERE) == following
    run_steps(context)
    assert results(taken_up) == results(whole[0].study)
    taken_up.store.close()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_study_that_is_stopped_within_a_step_goes_on_to_the_same_result(
    share: float, whole: tuple[Context, Interrupting], text: Path, tmp_path: Path
) -> None:
    study = example(tmp_path, text)
    with pytest.raises(Interrupted):
        run_steps(Context(study=study, progress=Interrupting(max(1, round(share * whole[1].updates)))))
    study.store.close()
    taken_up = example(tmp_path, text)
    run_steps(Context(study=taken_up))
    assert results(taken_up) == results(whole[0].study)
    taken_up.store.close()


def test_a_plan_has_only_the_steps_that_it_wants() -> None:
    def wanted(**changes: Any) -> list[str]:
        plan = Plan.from_plain({**EXAMPLE.to_plain(), **changes})
        names = [step.name for step in in_order(steps) if step.wanted(plan)]
        return [name for name in names if name in ORDER]

    assert wanted() == ORDER
    unmeasured = [name for name in ORDER if name not in ("profile", "measure")]
    assert wanted(objectives=["bits_per_byte"]) == unmeasured
    assert "measure" in wanted(objectives=["bits_per_byte"], measure=["memory"])
    assert wanted(objectives=["bits_per_byte"], constraints=["decode_ms<5"]) == ORDER
    alone = ["corpus", "profile", "search", "measure", "baselines"]
    assert wanted(evaluator="scratch", finalists=0) == [*alone, "repeats", "modify"]
    assert wanted(evaluator="scratch", finalists=0, baselines=[], final_seeds=1, then=[]) == alone[:-1]
    assert not {"baselines", "repeats"} & set(wanted(finalists=0))  # nothing that was trained alike
    assert wanted(objectives=["params"]) == ["search"]
    assert "train" not in wanted(trials=0)


def test_more_trials_and_more_picks_are_more_to_do(
    text: Path, tmp_path: Path, whole: tuple[Context, Interrupting]
) -> None:
    study = example(tmp_path, text)
    run_steps(Context(study=study))
    study.store.close()
    grown = example(tmp_path, text, trials=9)
    context = Context(study=grown)
    assert open_steps(context)[0] == "search"
    run_steps(context)
    assert results(grown)["trials"][:6] == results(whole[0].study)["trials"][:6]
    assert len(grown.trials()) == 9
    outside = next(t for t in grown.trials() if t.digest not in {f.digest for f in grown.trials("final")})
    picking = Context(study=grown, picks=(outside.genotype,))
    assert not steps["finalists"]().done(picking)
    run_steps(picking)
    assert steps["finalists"]().done(picking)
    assert [t.fidelity.steps for t in grown.trials("final") if t.digest == outside.digest] == [2, 4]
    grown.store.close()


def test_another_corpus_is_refused_whatever_is_done_already(text: Path, tmp_path: Path) -> None:
    mine = tmp_path / "text"
    write_text(mine)
    study = example(tmp_path / "study", mine)
    run_steps(Context(study=study), ["corpus"])
    (mine / "0.py").write_text("x = 1\n" * 9000)
    with pytest.raises(SettingError, match="was started on the corpus"):
        run_steps(Context(study=study))
    study.store.close()


@pytest.mark.slow
def test_networks_of_the_front_are_measured_once(text: Path, tmp_path: Path) -> None:
    changes = {
        "roofline": None,
        "objectives": ["bits_per_byte", "params"],
        "trials": 1,
        "finalists": 0,
        "then": [],
    }
    study = example(tmp_path, text, **changes)
    run_steps(Context(study=study))
    assert study.measurements() == []  # nobody asked
    study.store.close()
    study = example(tmp_path, text, **changes, measure=["latency"])
    run_steps(Context(study=study))
    assert open_steps(Context(study=study)) == []
    (trial,) = study.front()
    measured = study.measurements()
    assert {m.digest for m in measured} == {trial.digest}
    assert {"decode_ms_measured", "prefill_ms_measured"} == {m.name for m in measured}
    run_steps(Context(study=study))
    assert study.measurements() == measured
    study.store.close()


def test_an_estimate_is_put_on_record_without_measuring(text: Path, tmp_path: Path) -> None:
    study = example(tmp_path, text)
    run_steps(Context(study=study), ["profile"])
    assert study.facts["table"]["estimate"] == "xeon-1-thread"
    assert set(study.facts) == {"table", TABLES}
    study.store.close()


@dataclass(frozen=True)
class CountingWorkers(Workers):
    """Keeps the executors that were asked for."""

    opened: list[Executor] = field(default_factory=list)

    def executor(self, scorers: Mapping[str, Scorer], say: Say = lambda line: None) -> Executor:
        self.opened.append(super().executor(scorers, say))
        return self.opened[-1]


def test_a_study_of_functions_is_a_search_and_nothing_else(tmp_path: Path) -> None:
    plan = Plan(objectives=("small", "rich"), trials=5, strategy="random", finalists=0)
    functions = {"small": small, "rich": rich}
    study = create_study(toy_space(), plan, name="s", store=tmp_path / "s.db", functions=functions)
    workers = CountingWorkers()
    for _ in range(2):
        run_steps(Context(study=study, functions=functions, workers=workers))
    assert len(workers.opened) == 1
    assert set(study.facts) == {PREPARED, OUTCOME}
    study.store.close()


def test_results_are_computed_once_in_a_run(text: Path, tmp_path: Path) -> None:
    calls: list[Context] = []

    @computed_once
    def result(context: Context) -> int:
        calls.append(context)
        return len(calls)

    study = example(tmp_path, text)
    first, second = Context(study=study), Context(study=study)
    assert [result(first), result(first), result(second)] == [1, 1, 2]
    study.store.close()
