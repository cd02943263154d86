"""A supernet's folder tells what it holds; what does not fit is refused, with the reason."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random

import pytest
import torch

from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.folder import (
    ABOUT,
    Damaged,
    NoSupernet,
    OtherCorpus,
    OtherSpace,
    SupernetError,
    Unfinished,
    describe,
    open_supernet,
    progress,
    read_about,
)
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.shrinking import SHRINKING
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.recall import Recall
from evaluators.training.distributed import train_distributed
from evaluators.training.recipe import Recipe
from foundation.errors import EvaluationFailed, SettingError
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from tests.evaluators import tiny

TASK = Recall(tokens=12, length=10, pairs=2, sequences=50, windows=8)
LAYER = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(expansion=one_of(1, 2)))
SPACE = Space(Decoder(vocab=12, d_model=one_of(4, 8), layers=(LAYER,)), name="small")
STEPS = 6


def evaluator(folder: Path) -> FromSupernet:
    recipe = Recipe(supernet=SupernetRecipe(phases=SHRINKING, networks=3))
    return FromSupernet(TASK, to_json(SPACE.root), str(folder), STEPS, 2, 4, recipe, space_name=SPACE.name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supernets") / "small"
    describe(evaluator(folder), SPACE)
    evaluator(folder).train()
    return folder


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home, tmp_path / "copy"))


def test_an_opened_supernet_scores_like_the_one_that_was_trained(home: Path) -> None:
    opened = open_supernet(home)
    trained = evaluator(home)
    assert opened == replace(trained, recipe=trained.recipe.on("cpu"))
    dice = Random(0)
    for _ in range(3):
        spec = SPACE.close(SPACE.sample(dice))
        assert opened.score(spec, 0, 0) == evaluator(home).score(spec, 0, 0)
    assert open_supernet(home, space=SPACE, task=replace(TASK)) == opened
    assert progress(home) == {
        "step": STEPS,
        "steps": STEPS,
        "phase": "width",
        "file": next(home.glob("*.safetensors")).name,
    }


def test_a_folder_can_be_moved(home: Path, copy: Path) -> None:
    spec = SPACE.close(SPACE.sample(Random(1)))
    assert open_supernet(copy).score(spec, 0, 0) == open_supernet(home).score(spec, 0, 0)


def test_other_spaces_and_other_data_are_refused(home: Path, tmp_path: Path) -> None:
    other = Space(Decoder(vocab=12, d_model=8, layers=(LAYER,)), name="other")
    with pytest.raises(OtherSpace, match=r"the space small .*, not of other"):
        open_supernet(home, space=other)
    with pytest.raises(OtherCorpus, match="learned the task recall"):
        open_supernet(home, task=replace(TASK, length=12))
    with pytest.raises(OtherCorpus, match="this is language"):
        open_supernet(home, task=tiny.task(tmp_path))


def test_no_folder_an_empty_one_and_an_unfinished_training_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(NoSupernet, match="nas supernet train SPACE"):
            open_supernet(folder)
    describe(evaluator(tmp_path), SPACE)
    assert progress(tmp_path)["step"] == 0
    with pytest.raises(Unfinished, match="0 of 6 training steps"):
        open_supernet(tmp_path)
    going_on = open_supernet(tmp_path, finished=False)
    begun = evaluator(tmp_path)
    assert going_on == replace(begun, recipe=begun.recipe.on("cpu"))
    with pytest.raises(EvaluationFailed, match="no supernet trained for 6 steps"):
        going_on.score(SPACE.close(SPACE.sample(Random(0))), 0, 0)


@pytest.mark.parametrize("harm", ["cut", "text", "json", "format", "field"])
def test_damage_is_told(copy: Path, harm: str) -> None:
    weights, about = next(copy.glob("*.safetensors")), copy / ABOUT
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif harm == "text":
        weights.write_text("these are no weights")
    elif harm == "json":
        about.write_text(about.read_text()[:-30])
    else:
        told = json.loads(about.read_text())
        told |= {"format": 99} if harm == "format" else {}
        told.pop("recipe" if harm == "field" else "torch")
        about.write_text(json.dumps(told))
    with pytest.raises(Damaged) as found:
        open_supernet(copy)
    assert str(copy) in str(found.value)
    assert isinstance(found.value, SupernetError)


def test_a_folder_keeps_one_training(copy: Path) -> None:
    before = (copy / ABOUT).read_text()
    assert describe(evaluator(copy), SPACE) == copy / ABOUT
    with pytest.raises(SettingError, match="steps=6, not 7"):
        describe(replace(evaluator(copy), steps=7), SPACE)
    with pytest.raises(OtherCorpus):
        describe(replace(evaluator(copy), task=replace(TASK, windows=9)), SPACE)
    wider = Space(Decoder(vocab=12, d_model=16, layers=(LAYER,)))
    with pytest.raises(OtherSpace):
        describe(replace(evaluator(copy), space_json=to_json(wider.root)), wider)
    assert (copy / ABOUT).read_text() == before
    assert read_about(copy)["space"]["name"] == "small"


def test_several_processes_train_one_supernet(tmp_path: Path, home: Path) -> None:
    heard: list[tuple[int, float]] = []
    train_distributed(
        evaluator(tmp_path).train,
        2,
        prepare=partial(len, "imports"),
        on_step=lambda step, loss: heard.append((step, loss)),
    )
    assert [step for step, _ in heard] == list(range(1, STEPS + 1))
    together = evaluator(tmp_path).train()
    alone = SupernetTraining(
        SPACE,
        TASK,
        steps=STEPS,
        seed=2,
        batch=4,
        recipe=Recipe(supernet=SupernetRecipe(phases=SHRINKING, networks=3)),
    )
    losses = [alone.learn() for _ in range(STEPS)]
    assert [entry[1] for entry in together["loss"]] == pytest.approx([one for one, _ in losses], abs=2e-3)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_a_worker_that_dies_ends_the_training(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match=r"process \d of 2: ended with 3"):
        train_distributed(evaluator(tmp_path).train, 2, prepare=partial(os._exit, 3))


def test_what_a_worker_raises_is_told_without_a_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EvaluationFailed, match=r"process \d of 2: RuntimeError: .*non-negative"):
        train_distributed(evaluator(tmp_path).train, 2, prepare=partial(torch.zeros, -1))
    assert capfd.readouterr() == ("", "")


def train_and_tell(folder: str) -> None:
    """Train in two processes, and write whom they are."""
    from multiprocessing import active_children

    def on_step(step: int, loss: float) -> None:
        ids = " ".join(str(child.pid) for child in active_children())
        Path(folder, "processes").write_text(ids)

    long = replace(evaluator(Path(folder, "supernet")), steps=10**5)
    train_distributed(long.train, 2, on_step=on_step)


@pytest.mark.slow  # two processes import torch
def test_no_worker_outlives_the_one_that_started_it(tmp_path: Path, home: Path) -> None:
    driver = get_context("spawn").Process(target=train_and_tell, args=(str(tmp_path),))
    driver.start()
    told, end = tmp_path / "processes", time.monotonic() + 120
    while not (told.exists() and len(told.read_text().split()) == 2):
        assert driver.is_alive()
        assert time.monotonic() < end
        time.sleep(0.1)
    driver.kill()
    driver.join()
    workers = [Path("/proc") / process for process in told.read_text().split()]
    end = time.monotonic() + 20
    while any(worker.exists() and "Z" not in (worker / "stat").read_text().split()[2] for worker in workers):
        assert time.monotonic() < end
        time.sleep(0.1)
