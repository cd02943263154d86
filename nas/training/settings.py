"""The settings of a training outside of a study, and how they lie in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluators.tasks.base import OfTask
from evaluators.training.execution import BACKENDS, EAGER, Execution
from evaluators.training.parallel.course import CHECKPOINTS
from evaluators.training.parallel.memory import UNLIMITED
from evaluators.training.recipe import Recipe
from evaluators.training.regions import LEAST_SECONDS
from foundation.errors import FileError, NasError, SettingError
from foundation.files import read_json, real_path, write_json
from foundation.settings import MANY, SEEDS, Settings, setting

FILE = "settings.json"

HOW, WHAT = "How the work is shared", "What is learned"

WORK = ("parallel", "accumulate", "checkpoint_activations", "compile", "compile_seconds", "train_on")
"""Settings that change the work alone, and are given anew whenever a training goes on."""

COMPILE_SHARE = 0.06
"""Seconds of compiling for each step of a training, unless it is told otherwise.

A step of a network that is trained further takes longer than one of a search.
"""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(OfTask, Settings):
    """What is learned, and how the work is shared among processes."""

    steps: int = setting(
        1000,
        help="Steps in all, those included that were done before in this folder.",
        least=1,
        most=MANY,
        group=WHAT,
    )
    train_batch: int = setting(
        16, help="Sequences of a step, over all processes.", least=1, most=MANY, group=WHAT
    )
    recipe: Recipe = setting(
        Recipe(),
        help="How weights are learned: a ready-made recipe (`nas recipes`) or FILE.json, and single settings"
        " of it, e.g. optimizer.decay=0.05 or precision=bfloat16.",
        metavar="NAME|NAME=VALUE",
        repeated=True,
        shown="that of the study",
        group=WHAT,
    )
    task: str = setting(
        "language", help="What is learned: language or recall.", shown="that of the study", group=WHAT
    )
    data: str | None = setting(
        None,
        help="A folder or file of text.",
        metavar="PATH",
        shown="that of the study, or the standard library's own source",
        group=WHAT,
    )
    window: int | None = setting(
        None, help="Tokens of a sequence.", least=1, most=MANY, shown="the task's own", group=WHAT
    )
    validation_windows: int | None = setting(
        None,
        help="Sequences that the score is the mean of.",
        least=2,
        most=MANY,
        shown="the task's own",
        group=WHAT,
    )
    seed: int = setting(0, help="Random seed of the batches.", least=0, most=SEEDS, group=WHAT)
    parallel: str = setting(
        "",
        help="Processes by method, e.g. dp=2,tp=2: dp replicas, fsdp sharded replicas, tp parts of every"
        " block, pp stages of layers. The product is how many processes there are.",
        metavar="METHOD=N,...",
        shown="one process",
        group=HOW,
    )
    accumulate: int = setting(
        1,
        help="Pieces in which a process reads its rows of a batch, for less memory.",
        least=1,
        most=MANY,
        group=HOW,
    )
    checkpoint_activations: int = setting(
        UNLIMITED,
        help="Activation checkpointing: none, all, or the bytes that activations may take in a process, for"
        " which as few layers as possible are recomputed.",
        named={"none": UNLIMITED, "all": 0},
        least=UNLIMITED,
        most=2**62,
        metavar="none|all|BYTES",
        shown="none",
        group=HOW,
    )
    compile: str | None = setting(
        None,
        help="Compiles every distinct sublayer once: inductor; none; aot_eager only traces them.",
        choices=BACKENDS,
        shown="inductor on a GPU, none on a CPU and where there are few steps",
        group=HOW,
    )
    compile_seconds: float | None = setting(
        None,
        help="The longest time that compiling may take in each process; what comes later is not compiled.",
        least=0,
        most=1e6,
        shown=f"{COMPILE_SHARE} s a step, and 60 s at most",
        group=HOW,
    )
    train_on: str = setting(
        "cpu",
        help="Where to train: cpu, or cuda, where each process has a GPU of its own.",
        metavar="DEVICE",
        group=HOW,
    )

    @property
    def execution(self) -> Execution:
        """What is compiled, and how long that may take."""
        usual = Execution.for_device(self.train_on)
        seconds = self.compile_seconds
        if seconds is None:
            seconds = min(usual.compile_seconds, COMPILE_SHARE * self.steps)
        pays = usual.compile if seconds >= LEAST_SECONDS else EAGER
        backend = pays if self.compile is None else self.compile
        return replace(usual, compile=backend, compile_seconds=seconds)

    def save(self, folder: Path) -> None:
        """Write them into the folder of a training."""
        data = None if self.data is None else real_path(self.data)
        write_json(folder / CHECKPOINTS / FILE, {**self.to_plain(), "data": data}, indent=2)


def is_training(folder: Path) -> bool:
    """Whether a folder holds a training that may go on."""
    return (folder / CHECKPOINTS).is_dir()


def saved_settings(folder: Path) -> dict[str, Any] | None:
    """The settings of the training in a folder that decide what is learned; None where there is none.

    Raises:
        SettingError: they are damaged.
    """
    path = folder / CHECKPOINTS / FILE
    if not path.is_file():
        return None
    try:
        plain = read_json(path)
        if not isinstance(plain, Mapping):
            raise FileError(f"{path} is damaged: it holds no settings")
        settings = TrainingSettings.from_plain(plain)
    except NasError as error:
        raise SettingError(f"the training in {folder} cannot go on: {error}") from None
    return {name: value for name, value in vars(settings).items() if name not in WORK}
