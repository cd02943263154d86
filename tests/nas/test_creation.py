"""What is refused before anything is stored, and which study a name goes on with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foundation.errors import ConsentNeeded, NasError, SettingError, StoreError
from nas.store import Store
from nas.study.creation import create_study
from nas.study.forecast import WEEK, Forecast, Work, largest_of, of_plan, of_timing, of_trials
from nas.study.plan import Plan, plan_of
from nas.study.study import Study
from nas.study.trial import Fidelity, Trial, TrialState
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

COSTS = ("params", "weight_bytes")

LAPTOP = spaces["laptop"]()

FIDELITY = Fidelity(evaluator="supernet", steps=1)


def made(folder: Path, *, space: Any = LAPTOP, said: list[str] | None = None, **settings: Any) -> Study:
    plan = Plan.from_plain({"objectives": COSTS, "finalists": 0, **settings})
    say = (said if said is not None else []).append
    return create_study(space, plan, name="a", store=folder / "s.db", say=say)


def trial(study: Study, state: TrialState) -> Trial:
    genotype = study.space.draw(lambda path, labels: labels[0])[0]
    return Trial(number=0, genotype=genotype, fidelity=FIDELITY, seed=0, started=0.0, state=state)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"train_on": "tpu"}, "networks are trained on cpu or cuda"),
        ({"scenarios": ["tpu"], "objectives": ["prefill_ms"]}, "unsupported device 'tpu'"),
        ({"scenarios": ["mps"], "objectives": ["prefill_ms"]}, "unsupported device 'mps'"),
        (
            {"scenarios": ["cpu,threads=1000"], "objectives": ["decode_ms"]},
            "1000 threads, and this process may use",
        ),
        ({"scenarios": ["cpu:1"], "objectives": ["decode_ms"]}, "one device, cpu"),
        ({"settings": {"start": 1}}, "start must be at least 8"),
        ({"settings": {"guard": "false"}}, "no setting 'guard'"),
        ({"strategy": "mnasnet", "objectives": ["params"]}, "mnasnet needs a quality and a cost"),
        (
            {"objectives": ["bits_per_byte"], "finalists": 3, "finalist_steps": []},
            "finalists need finalist_steps, or finalists=0",
        ),
        ({"objectives": ["bits_per_byte"], "finalist_steps": [0]}, "finalist_steps must be at least 1"),
        (
            {"objectives": ["bits_per_byte"], "finalist_steps": ["-5", "3"]},
            "finalist_steps must be at least 1",
        ),
        ({"roofline": ""}, "roofline must not be empty"),
        ({"data": ""}, "data must not be empty"),
        ({"latency_tables": [""]}, "tables must not be empty"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 2**63}, "seed must be at most 9223372036854775807"),
        ({"recipe": {"supernet": {"favoured": ["xx"]}}}, "favoured must be genotypes in JSON, got 'xx'"),
    ],
)
def test_a_refused_study_leaves_nothing(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(NasError, match=says):
        made(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_a_folder_leaves_no_store(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="a study's name is made of"):
        create_study(LAPTOP, Plan(objectives=COSTS), name="../a", store=tmp_path / "s.db")
    assert list(tmp_path.iterdir()) == []


def test_the_largest_seed_is_one(tmp_path: Path) -> None:
    assert made(tmp_path, seed=2**63 - 1).plan.seed == 2**63 - 1


def test_a_study_without_trials_begins_anew_with_other_settings(tmp_path: Path) -> None:
    said: list[str] = []
    made(tmp_path, seed=1)
    study = made(tmp_path, seed=2, said=said)
    assert study.plan.seed == 2
    assert said == ["study a had no trials yet: it begins anew, with the settings of now"]
    other = made(tmp_path, space=spaces["hybrid_lm"](), said=said)
    assert other.record.space_digest != study.record.space_digest
    assert len(said) == 2
    with Store(tmp_path / "s.db") as store:
        assert len(store.studies()) == 1


def test_more_trials_continue_a_study_without_a_word(tmp_path: Path) -> None:
    said: list[str] = []
    study = made(tmp_path, strategy="random", trials=3)
    assert made(tmp_path, strategy="random", trials=5, said=said).record.id == study.record.id
    assert not said


@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.COMPLETE, TrialState.FAILED])
def test_a_study_with_trials_keeps_its_settings(state: TrialState, tmp_path: Path) -> None:
    study = made(tmp_path, seed=1)
    study.store.save(study.record, [trial(study, state)])
    with pytest.raises(SettingError, match="started with seed=1, not seed=2"):
        made(tmp_path, seed=2)
    with pytest.raises(StoreError, match="holds space"):
        made(tmp_path, space=spaces["hybrid_lm"]())
    assert made(tmp_path, seed=1).record.id == study.record.id


def test_a_study_that_has_learned_keeps_its_settings(tmp_path: Path) -> None:
    study = made(tmp_path, seed=1)
    (study.folder / "supernet").mkdir(parents=True)
    (study.folder / "supernet/step-00000010.safetensors").touch()
    with pytest.raises(SettingError, match="started with seed=1, not seed=2"):
        made(tmp_path, seed=2)


def test_a_record_that_cannot_be_read_is_replaced_where_nothing_is_lost(tmp_path: Path) -> None:
    study = made(tmp_path)
    plan = {**study.record.config["plan"], "seed": -1}
    study.store.update_config(study.record, {**study.record.config, "plan": plan})
    assert made(tmp_path).plan.seed == 0


@pytest.mark.parametrize(
    ("trials", "strategy", "remarks"), [(24, "nsga2", 1), (25, "nsga2", 0), (3, "random", 0)]
)
def test_evolution_that_would_be_chance_is_said(
    tmp_path: Path, trials: int, strategy: str, remarks: int
) -> None:
    said: list[str] = []
    made(tmp_path, trials=trials, strategy=strategy, said=said)
    assert len(said) == remarks
    assert all(f"trials={trials}: nsga2 draws its first 24 candidates at random" in line for line in said)


def test_more_trials_than_architectures_are_said(tmp_path: Path) -> None:
    layer = Layer(sequence_mixer=ShortConv(kernel=3), channel_mixer=SwiGLU(expansion=one_of(1, 2)))
    said: list[str] = []
    made(tmp_path, space=Space(Decoder(d_model=16, layers=(layer,))), trials=10**6, said=said)
    assert said == ["the space has only 2 architectures, fewer than trials are asked for"]


@pytest.mark.parametrize(
    "settings",
    [
        {"train_steps": 10**9},
        {"train_batch": 10**9},
        {"trials": 10**8},
        {"evaluator": "scratch", "trials": 10**6},
        {"finalist_steps": [10**9]},
        {"finalists": 10**6, "finalist_steps": [1000]},
        {"engine": "darts", "settings": {"steps": 10**9}},
        {"engine": "exact", "settings": {"align": 10**9}},
        {"profile_seconds": 1e7, "objectives": ["bits_per_byte", "decode_ms"]},
        {"scenarios": ["prompt=1000000000"], "objectives": ["bits_per_byte", "decode_ms"]},
        {"scenarios": ["batch=1000000"], "objectives": ["bits_per_byte", "prefill_ms"]},
        {"objectives": ["recall_error"], "window": 10**9},
        {"objectives": ["recall_error"], "validation_windows": 10**9},
        {"recipe": {"supernet": {"networks": 10**4}}, "train_steps": 10**6},
    ],
    ids=str,
)
def test_what_takes_years_or_all_memory_needs_consent(settings: dict[str, Any], tmp_path: Path) -> None:
    wanted = {"objectives": ["bits_per_byte"], "finalists": 6, **settings}
    with pytest.raises(ConsentNeeded, match=r"would take about .* or insist with yes=True"):
        made(tmp_path, **wanted)
    assert list(tmp_path.iterdir()) == []


def test_consent_is_given_once(tmp_path: Path) -> None:
    plan = Plan(objectives=COSTS, trials=10**9, finalists=0)
    with pytest.raises(ConsentNeeded, match=r"58 days and 4\.1 TB"):
        create_study(LAPTOP, plan, name="a", store=tmp_path / "s.db")
    create_study(LAPTOP, plan, name="a", store=tmp_path / "s.db", yes=True)
    create_study(LAPTOP, plan, name="a", store=tmp_path / "s.db")


@pytest.mark.parametrize("name", list(spaces))
def test_usual_studies_need_no_consent(name: str) -> None:
    space = spaces[name]()
    largest = largest_of(space)
    forecast = of_trials(300) + of_timing(largest, Scenario(), 30)
    on = plan_of(space, {}).train_on
    forecast += Work(largest=largest, length=128, device=on).learning(1000, 16, networks=4)
    forecast.require_consent(yes=False)
    assert 1 < forecast.seconds < WEEK / 10


def test_memory_of_steps_in_a_row_is_that_of_the_largest() -> None:
    both = Forecast(1.0, {"cpu": 3.0}) + Forecast(2.0, {"cpu": 2.0, "cuda:0": 1.0}).times(2)
    assert both == Forecast(5.0, {"cpu": 3.0, "cuda:0": 1.0})


def test_micro_batches_take_less_memory() -> None:
    work = Work(largest=largest_of(LAPTOP), length=128)
    assert work.learning(1, 64, pieces=8).memory["cpu"] < work.learning(1, 64).memory["cpu"] / 4
    assert of_plan(LAPTOP, Plan(objectives=COSTS), (), None).seconds < 60  # type: ignore[arg-type]  # unused
