"""The one training loop: continue from the last checkpoint, learn step by step, report, save.

    curve = fit(NetworkTraining(build(spec, seed=0), task, steps=100, seed=0), folder=Path("checkpoints"))

Whatever is trained is a `Trainable`: one network, a supernet, the alternatives of an alignment, the logits of
a differentiable search. Chance comes from (seed, step), so a training that was stopped ends with the same
weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from torch import Tensor

from evaluators.training import checkpoints
from evaluators.training.curve import Curve
from evaluators.training.interruption import between_steps
from evaluators.training.live import LiveNote
from evaluators.training.losses import Waiting
from evaluators.training.trainable import Trainable
from foundation.errors import FileError

SAVE_SECONDS = 20.0
"""Seconds between two checkpoints; where one takes longer than a second, so many times what it takes.

So a training spends at most a twentieth of its time with them: those of a large supernet take seconds.
"""

_log = logging.getLogger(__name__)


def fit(
    training: Trainable,
    *,
    folder: Path | None = None,
    start: Mapping[str, Tensor] | None = None,
    until: int | None = None,
    on_step: Callable[[int, float], None] | None = None,
    curve_file: Path | None = None,
    writes: bool = True,
    save_seconds: float | None = None,
) -> Curve:
    """Train to the end, or continue from the last checkpoint in the folder; the losses by step.

    `start` are weights by name to begin with. `until` stops after so many steps in all. `on_step` is called
    with the number of each step, from 1, and its loss in the task's unit: in order, but late where a GPU
    computes them (`evaluators.training.losses`). The curve is kept in `curve_file`. Of several processes only
    one `writes`. With a folder, Ctrl-C saves the step that it came in (`evaluators.training.interruption`).
    While it runs a note in the folder says how fast (`evaluators.training.live`).

    Raises:
        EvaluationFailed: a loss is not finite; no checkpoint is written after such a step.
        SettingError: the weights to start from do not fit.
    """
    steps = training.steps if until is None else min(until, training.steps)
    kept = {steps, training.shared_steps}
    wait = pause = SAVE_SECONDS if save_seconds is None else save_seconds
    if start is not None:
        training.start_from(start)
    if folder is not None:
        checkpoints.resume(training, folder, steps)
    curve, saved, waiting = _curve(curve_file, training.step), monotonic(), Waiting()
    pace = training.pace
    held, ends = between_steps(held=writes and folder is not None), False
    with held as stopped, LiveNote(folder, training, pace, writes=writes) as note:
        while training.step < steps and not training.finished and not ends:
            losses = training.advance()
            waiting.add(training.step, losses)
            ends = stopped()
            saves = ends or monotonic() - saved > wait or training.step in kept or training.finished
            for step, shown in waiting.read() if saves or waiting.due else ():
                curve.add(step, shown)
                pace.add()
                note.tell(shown[0])
                if on_step is not None:
                    on_step(step, shown[0])
            if saves:
                now = monotonic()
                curve.seconds += round(now - saved, 3)
                curve.pace, saved = pace.to_plain(), now
                if writes and curve_file is not None:
                    curve.write(curve_file)
                if writes and folder is not None:
                    checkpoints.save(training, folder)
                    wait = pause * max(1.0, monotonic() - now)
    return curve


def _curve(path: Path | None, step: int) -> Curve:
    """The losses so far; nothing depends on them, so without them a training goes on."""
    try:
        return Curve.read(path, step)
    except FileError as error:
        _log.warning("WARNING: %s; the losses up to step %d are lost", error, step)
        return Curve()
