"""Running a course in the processes of one host, or in those that `torchrun` has started.

    begin(course, model)                 # the first checkpoint: the weights it starts with
    run(course, on_step=print)           # in `course.parallel.count` processes of this host
    model = trained_model(course)        # whole again, from the last checkpoint

Every process reads what it holds from the last checkpoint, the first one included, so that none ever holds
more, and a training that was stopped goes on by the same words, on another number of processes too.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import monotonic

import torch
import torch.distributed as dist

from evaluators.training import fit
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.parallel import pieces
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import Grid, make_grid
from evaluators.training.parallel.pieces import Piece
from evaluators.training.parallel.training import ParallelTraining
from evaluators.training.process_group import TIMEOUT, ProcessGroup
from foundation.errors import FileError, SettingError
from foundation.wording import argument
from search_spaces.devices import on_cuda
from search_spaces.network.model import Model

FIRST = 0


class Stop:
    """Whether somebody asked the training to end after its next step."""

    def __init__(self) -> None:
        self._event = get_context("spawn").Event()

    def ask(self) -> None:
        """End after the next step."""
        self._event.set()

    def asked(self) -> bool:
        """Whether it was asked."""
        return self._event.is_set()


@dataclass(frozen=True)
class Outcome:
    """What a run came to: the step reached, and whether it was stopped before its end."""

    step: int
    stopped: bool


def begin(course: Course, model: Model) -> int:
    """Write the first checkpoint, unless there is a later one; the step that the training is at.

    Raises:
        SettingError: the folder holds another training.
        FileError: all of its checkpoints are damaged, or it cannot be written.
    """
    course.check()
    step = pieces.latest(course.checkpoints, course.about())
    if step is not None:
        return step
    if any(course.checkpoints.glob("step-*/part-*")) and not _only_first(course.checkpoints):
        raise FileError(f"{course.checkpoints} holds no whole checkpoint: remove it to begin anew")
    whole = {name: weight.detach() for name, weight in model.named_parameters()}
    parts = {f"weight/{n}": Piece(w, (0,) * w.dim(), tuple(w.shape)) for n, w in whole.items()}
    pieces.write_part(course.checkpoints, FIRST, 0, parts)
    pieces.write_index(course.checkpoints, FIRST, 1, course.about())
    return FIRST


def _only_first(folder: Path) -> bool:
    """Whether nothing was trained here yet: the first checkpoint can be written again."""
    return {path.name for path in folder.glob("step-*")} <= {f"step-{FIRST}"}


def run(course: Course, *, on_step: OnStep | None = None, stop: Stop | None = None) -> Outcome:
    """Train to the end, or until `stop` is asked; `on_step` is called here with every step and its loss.

    Raises:
        EvaluationFailed: a loss is not finite, or a process ended before the training did.
        FileError: a checkpoint cannot be read or written.
    """
    begun = _reached(course)
    stop = stop or Stop()
    if begun < course.steps:
        train = partial(train_here, course, begun, stop=stop)
        count = course.parallel.count
        if count == 1:
            train_here(course, begun, on_step, process_group=ProcessGroup(), stop=stop)
        else:
            train_distributed(
                train, count, device=course.device, prepare=course.kinds, on_step=on_step, share_cpus=True
            )
    return reached(course)


def reached(course: Course) -> Outcome:
    """How far a training is.

    Raises:
        FileError: it has no whole checkpoint.
    """
    step = _reached(course)
    return Outcome(step, step < course.steps)


def remove(course: Course) -> None:
    """Remove a training's checkpoints."""
    shutil.rmtree(course.checkpoints, ignore_errors=True)


def run_under_torchrun(
    course: Course, prepare: Callable[[], int], on_step: OnStep | None = None, stop: Stop | None = None
) -> bool:
    """Train as one of the processes that `torchrun` started; whether this is the first of them.

    Only the first process calls `prepare`, which begins the training and gives its step (`begin`).

    Raises:
        SettingError: there are not as many processes as the course asks for.
    """
    there = int(os.environ["WORLD_SIZE"])
    if there != course.parallel.count:
        asked = (
            course.parallel.asked if str(course.parallel) else f"a training without {argument('parallel')}"
        )
        raise SettingError(
            f"torchrun started {there} processes, and {asked} is for {course.parallel.count}: ask for as"
            f" many, e.g. {argument('parallel', f'dp={there}')}"
        )
    with _joined(course) as rank:
        reached = torch.zeros(1, device=_device(course))
        if rank == 0:
            reached += prepare()
        dist.broadcast(reached, 0)
        told = on_step if rank == 0 else None
        train_here(course, int(reached), told, process_group=ProcessGroup(rank, there), stop=stop)
    return rank == 0


def under_torchrun() -> bool:
    """Whether `torchrun` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process speaks for a training: of those that `torchrun` started, one does."""
    return not under_torchrun() or os.environ.get("RANK", "0") == "0"


@contextmanager
def _joined(course: Course) -> Iterator[int]:
    """The process group of torchrun."""
    if on_cuda(course.device):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_cuda(course.device) else "gloo", timeout=TIMEOUT)
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def _device(course: Course) -> str:
    return "cuda" if on_cuda(course.device) else course.device


def trained_model(course: Course) -> Model:
    """The network with the weights of the last checkpoint.

    Raises:
        FileError: there is none, or it is damaged.
    """
    with torch.device("meta"):
        model = Model(course.decoder())
    model = model.to(course.torch_dtype).to_empty(device="cpu")
    with pieces.open_pieces(course.checkpoints, _reached(course)) as stored, torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(stored.whole(f"weight/{name}"))
    return model


def _reached(course: Course) -> int:
    step = pieces.latest(course.checkpoints, course.about())
    if step is None:
        raise FileError(f"{course.checkpoints} holds no whole checkpoint")
    return step


def train_here(
    course: Course,
    reached: int,
    on_step: OnStep | None,
    *,
    process_group: ProcessGroup,
    stop: Stop | None = None,
) -> None:
    """Train as one of the processes of a group, from the checkpoint of the step `reached`."""
    grid = make_grid(course.parallel.sizes, device=course.device)
    training = opened(course, grid, reached)
    saved = monotonic()
    while training.step < course.steps:
        losses = training.learn()
        if on_step is not None:
            on_step(training.step, losses[0])
        due = monotonic() - saved > fit.SAVE_SECONDS or training.step == course.steps
        stopping, saving = _agreed(grid, stop is not None and stop.asked(), due)
        if stopping or saving:
            save(training, course)
            saved = monotonic()
        if stopping:
            return


def opened(course: Course, grid: Grid, step: int) -> ParallelTraining:
    """The training of this process as its checkpoint of a step left it."""
    with pieces.open_pieces(course.checkpoints, step) as stored:
        training = ParallelTraining(course, grid, stored)
        training.restore(stored, step)
    return training


def save(training: ParallelTraining, course: Course) -> None:
    """Write a checkpoint together with all other processes."""
    grid, folder = training.grid, course.checkpoints
    pieces.write_part(folder, training.step, grid.rank, training.pieces())
    grid.wait()
    if grid.rank == 0:
        pieces.write_index(folder, training.step, grid.count, course.about())
    grid.wait()


def _agreed(grid: Grid, stopping: bool, saving: bool) -> tuple[bool, bool]:
    """What any process wants, all do."""
    wishes = grid.sum_all(torch.tensor([float(stopping), float(saving)], device=grid.device))
    return bool(wishes[0] > 0), bool(wishes[1] > 0)
