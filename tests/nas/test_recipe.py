"""One recipe reaches the supernet of a study, its finalists and its validation, and `nas supernet train`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluators.supernet.folder import open_supernet
from evaluators.supernet.shrinking import SHRINKING, WHOLE
from evaluators.tasks.recall import Recall
from evaluators.training.recipe import Recipe
from evaluators.training.recipes import recipes
from evaluators.training.schedules.trapezoid import Trapezoid
from foundation.errors import SettingError, UnknownName
from nas.cli import app
from nas.study.evaluators import scratch_evaluator, supernet_evaluator
from nas.study.plan import Plan
from nas.study.study import open_study
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

RECIPE = Recipe().with_settings(
    {"supernet.phases": "shrinking", "supernet.networks": 2, "optimizer.decay": 0}
)
WORDS = [
    word
    for text in ("supernet.phases=shrinking", "supernet.networks=2", "optimizer.decay=0")
    for word in ("--recipe", text)
]
SPACE = """
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

space = Space(Decoder(vocab=64, d_model=one_of(4, 8), layers=(Layer(sequence_mixer=ShortConv()),)), name="x")
"""


@pytest.fixture
def space(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(SPACE)
    return str(tmp_path / "own.py")


def run(*words: str) -> None:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_a_plan_holds_its_recipe() -> None:
    plan = Plan(recipe=RECIPE)
    assert Plan.from_plain(json.loads(json.dumps(plan.to_plain()))) == plan
    with pytest.raises(SettingError, match="recipe"):
        Plan().require_same(plan)
    assert Plan().recipe.supernet.phases == WHOLE


def test_every_evaluator_of_a_study_has_the_recipe_of_its_plan(tmp_path: Path) -> None:
    plan, task = Plan(recipe=RECIPE), Recall()
    layer = Layer(sequence_mixer=ShortConv())
    small = Space(Decoder(vocab=64, d_model=one_of(4, 8), layers=(layer,)))
    assert supernet_evaluator(small, plan, task, tmp_path).recipe == RECIPE
    assert scratch_evaluator(plan, task, tmp_path).recipe == RECIPE


def test_what_workers_open_is_named_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nodes of a cluster were started in other folders
    plan, task = Plan(), Recall()
    small = Space(Decoder(vocab=64, d_model=4, layers=(Layer(sequence_mixer=ShortConv()),)))
    assert scratch_evaluator(plan, task, Path("s")).checkpoints == str(tmp_path / "s" / "scratch")
    assert supernet_evaluator(small, plan, task, Path("s")).folder == str(tmp_path / "s" / "supernet")


def test_both_commands_take_the_same_words(tmp_path: Path, space: str) -> None:
    small = ["--train-steps", "4", "--train-batch", "4", "--validation-windows", "6"]
    store = ["--store", str(tmp_path / "s.db")]
    goals = ["-o", "recall_error", "-o", "weight_bytes", "--trials", "2", "--finalists", "0"]
    run("search", space, "--name", "one", *goals, *store, *small, *WORDS)
    assert open_study("one", store[1]).plan.recipe == RECIPE.on("cpu")
    folder = tmp_path / "net"
    run("supernet", "train", space, "-o", str(folder), "--task", "recall", *small, *WORDS)
    assert open_supernet(folder).recipe == RECIPE.on("cpu")
    run("search", space, "--name", "two", *goals, *store, "--supernet", str(folder))
    assert open_study("two", store[1]).plan.recipe == RECIPE.on("cpu")  # that of the supernet
    with pytest.raises(SettingError, match="trained by another recipe"):
        run(
            "search",
            space,
            "--name",
            "three",
            *goals,
            *store,
            "--supernet",
            str(folder),
            "--recipe",
            "clip=2",
        )


def test_a_recipe_is_named_or_lies_in_a_file_and_single_settings_change_it(
    tmp_path: Path, space: str
) -> None:
    printed = CliRunner().invoke(app, ["recipes", "Trapezoid"], catch_exceptions=False).output
    (tmp_path / "mine.json").write_text(printed)
    asked = ["-o", "weight_bytes", "--trials", "1", "--finalists", "0", "--store", str(tmp_path / "s.db")]
    for name, word in (("named", "trapezoid"), ("read", str(tmp_path / "mine.json"))):
        run("search", space, "--name", name, *asked, "--recipe", "clip=2", "--recipe", word)
    wanted = Recipe(schedule=Trapezoid(), clip=2.0).on("cpu")
    assert open_study("named", asked[-1]).plan.recipe == open_study("read", asked[-1]).plan.recipe == wanted
    assert Plan.from_plain({"recipe": "trapezoid"}).recipe == Recipe(schedule=Trapezoid())
    with pytest.raises(SettingError, match=r"--recipe trapezoid and default: one at a time"):
        run("search", space, *asked, "--recipe", "trapezoid", "--recipe", "default")


def test_a_study_is_not_continued_by_another_recipe(tmp_path: Path, space: str) -> None:
    asked = ["-o", "weight_bytes", "--trials", "1", "--finalists", "0", "--store", str(tmp_path / "s.db")]
    run("search", space, "--name", "one", *asked)
    with pytest.raises(SettingError, match=r"another recipe \(schedule.name=inverse_sqrt, not trapezoid\)"):
        run("search", space, "--name", "one", *asked, "--recipe", "trapezoid")


def test_recipes_are_listed_with_their_use() -> None:
    lines = CliRunner().invoke(app, ["recipes"], catch_exceptions=False).output.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(recipes)
    assert all(": for " in line for line in lines)


def test_a_supernet_of_its_own_folder_is_trained_in_phases(tmp_path: Path, space: str) -> None:
    folder = tmp_path / "net"
    run(
        "supernet",
        "train",
        space,
        "-o",
        str(folder),
        "--task",
        "recall",
        "--train-steps",
        "1",
        "--recipe",
        "clip=2",
    )
    recipe = open_supernet(folder).recipe
    assert recipe.supernet.phases == SHRINKING
    assert recipe.clip == 2


def test_unknown_settings_are_answered_with_the_nearest(tmp_path: Path, space: str) -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'supernet\.phases'"):
        run("search", space, "--store", str(tmp_path / "s.db"), "--recipe", "supernet.phase=whole")
