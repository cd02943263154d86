"""Training a network further: a winner of a study, a published architecture, an exported folder.

The folder that is written is an exported model with its checkpoints beside it; until the training was stopped
or ended for the first time, it is marked as unfinished:

    OUT/config.json, OUT/model.safetensors     as `nas export` writes them; the start, then the end
    OUT/training/settings.json                 what is learned
    OUT/training/step-N/                       checkpoints (evaluators.training.parallel.pieces)
"""

from __future__ import annotations

import shlex
import signal
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from evaluators.scoring.base import Score
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.training.distributed import check_processes
from evaluators.training.execution import EAGER
from evaluators.training.network_training import rounded_model
from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.memory import recomputed_within, trace_of
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.trainable import weights_digest
from foundation.errors import SettingError
from foundation.files import real_path
from foundation.wording import argument
from nas.progress import Progress
from nas.signals import STOPS
from nas.study.model_code import parts_of
from nas.study.task import check_tokens, doubt_of_tokens
from nas.training.settings import TrainingSettings, is_training
from nas.training.start import Start
from search_spaces.devices import on_cuda, require_here
from search_spaces.language.serialization import to_json
from search_spaces.network.model_files import check_free, read_config, save_model

RATE_STEPS = 50
"""Steps over which the speed is the mean."""


@dataclass(frozen=True)
class Trained:
    """What a training came to: the step, whether it was stopped before its end, and the validation score."""

    folder: Path
    step: int
    stopped: bool
    score: Score | None
    tokens_per_second: float | None


def course_of(start: Start, settings: TrainingSettings, folder: Path) -> Course:
    """The training that these settings ask for.

    Raises:
        SettingError: it cannot be done like this.
        DataError: its text cannot be used.
    """
    require_here(settings.train_on)
    how = settings.execution
    known = start.about.get("training", {}) if start.folder is not None else {}
    course = Course(
        spec=to_json(start.model.spec),
        task=settings.make_task(),
        steps=settings.steps,
        folder=str(folder.absolute()),
        origin=known.get("origin") or weights_digest(dict(start.model.named_parameters())),
        seed=settings.seed,
        batch=settings.train_batch,
        recipe=settings.recipe.on(settings.train_on),
        parallel=Parallel.parse(settings.parallel),
        accumulate=settings.accumulate,
        compile=how.compile,
        compile_seconds=how.compile_seconds,
        device=settings.train_on,
    )
    course.check()
    check_tokens(start.tokenizer, course.task)
    if settings.checkpoint_activations < 0:
        return course
    return replace(
        course, recomputed=recomputed_within(course, trace_of(course), settings.checkpoint_activations)
    )


def train(
    start: Start,
    settings: TrainingSettings,
    output: str | Path | None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Trained:
    """Train in the folder `output`, or go on in the one that holds the training of `start`.

    With `force`, another model that was exported into this folder is replaced, with its training.

    Raises:
        SettingError: it cannot be done like this, or the folder holds something else.
        EvaluationFailed: a loss is not finite, or a process ended before the training did.
        FileError: a checkpoint cannot be read or written.
    """
    folder = _folder(start, output)
    course = course_of(start, settings, folder)
    course = replace(course, kinds=partial(parts_of, str(folder), trust_code=True))
    if on_cuda(course.device) and not runs.under_torchrun():  # else more of them share the CPUs
        check_processes(course.parallel.count, course.device, asked=course.parallel.asked)
    stop, speed, shown = runs.Stop(), Speed(course.batch * course.task.length), progress or Progress()
    doubt = doubt_of_tokens(start.tokenizer, start.model.spec.vocab, course.task)
    if start.learned and start.folder is None and doubt:
        shown.say(doubt)
    if course.compile != EAGER and runs.is_first():
        shown.say(course.compiles)
    with shown.bar("training", course.steps) as bar, stopping(stop):

        def on_step(step: int, loss: float) -> None:
            bar.update(step, f"{loss:.3f} {course.task.unit}{speed.note(step)}")

        if runs.under_torchrun():
            first = runs.run_under_torchrun(
                course, partial(_begun, start, settings, course, force), on_step, stop
            )
            if not first:
                return Trained(folder, course.steps, False, None, None)
            outcome = runs.reached(course)
        else:
            _begun(start, settings, course, force)
            outcome = runs.run(course, on_step=on_step, stop=stop)
        return _exported(start, course, outcome, speed)


def _begun(start: Start, settings: TrainingSettings, course: Course, force: bool) -> int:
    """The step that the training is at, which is begun where it was not."""
    if start.folder is None:
        _prepare(start, course, force)
    step = runs.begin(course, start.model)
    settings.save(Path(course.folder))
    return step


def _folder(start: Start, output: str | Path | None) -> Path:
    """The folder to write.

    Raises:
        SettingError: none is named, or the training of another one would be begun anew.
    """
    if output is None and start.folder is None:
        raise SettingError(f"name the folder to write: {argument('output', 'FOLDER')}")
    if start.folder is None:
        assert output is not None
        return Path(output)
    if output is not None and real_path(output) != real_path(start.folder):
        raise SettingError(
            f"{start.folder} holds a training, which goes on in it: leave {argument('output')} out, or copy"
            " its model elsewhere first"
        )
    return start.folder


def _prepare(start: Start, course: Course, force: bool) -> None:
    """Export the start, unless a training of it lies here already."""
    folder = Path(course.folder)
    if is_training(folder) and not force:
        about = read_config(folder).get("about", {})
        if about.get("training", {}).get("origin") == course.origin:
            return
    check_free(folder, force=force)
    if force:
        runs.remove(course)
    about = {**start.about, "training": {"origin": course.origin, "step": 0}}
    save_model(
        start.model,
        folder,
        about,
        force=force,
        code=start.code,
        tokenizer=course.task.tokenizer_json(),
        unfinished=f"a training was begun there, and goes on with `nas train {shlex.quote(str(folder))}`",
    )


def _exported(start: Start, course: Course, outcome: runs.Outcome, speed: Speed) -> Trained:
    """Export the weights that were reached, with their score."""
    model = rounded_model(runs.trained_model(course))
    losses = window_losses(model, course.task, segment=state_segment(model.spec))
    score = Score.of(losses.tolist())
    about = {
        **start.about,
        "weights": f"trained further for {outcome.step} steps of {course.batch} sequences",
        "training": {"origin": course.origin, "step": outcome.step, "task": course.task.digest},
        course.task.score_name: score.value,
    }
    tokenizer = course.task.tokenizer_json()
    save_model(model, course.folder, about, force=True, code=start.code, tokenizer=tokenizer)
    return Trained(Path(course.folder), outcome.step, outcome.stopped, score, speed.tokens_per_second)


@dataclass
class Speed:
    """Tokens a second, over the last steps."""

    tokens: int
    times: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RATE_STEPS))

    def note(self, step: int) -> str:
        """The speed at a step, in words."""
        self.times.append((step, monotonic()))
        speed = self.tokens_per_second
        return "" if speed is None else f", {speed:,.0f} tokens/s"

    @property
    def tokens_per_second(self) -> float | None:
        """None until two steps were seen."""
        if len(self.times) < 2:
            return None
        (first, began), (last, ended) = self.times[0], self.times[-1]
        return (last - first) * self.tokens / max(ended - began, 1e-9)


@contextmanager
def stopping(stop: runs.Stop) -> Iterator[None]:
    """Let a signal end the training after its step, with a checkpoint; a second one has its usual effect.

    The signal takes its usual effect when that is done.
    """
    received: list[int] = []
    handlers: Mapping[int, Any] = {
        number: signal.getsignal(number) for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN
    }

    def ask(number: int, frame: Any) -> None:
        received.append(number)
        stop.ask()
        for other, handler in handlers.items():
            signal.signal(other, handler)

    for number in handlers:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
