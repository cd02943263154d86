"""A training inside a modifier, shown while it runs: where it goes on from, and how it stands of late."""

from __future__ import annotations

from evaluators.training.curve import Curve
from evaluators.training.fit import fit
from evaluators.training.trainable import Trainable
from nas.modifiers.base import Work

WEIGHT = 0.05
"""Of the last batch in the mean that is shown: of some 20 batches, since one alone says little."""


def fit_shown(training: Trainable, work: Work, doing: str, steps: int) -> Curve:
    """Train for `steps` in all, from the last checkpoint in the work's folder if there is one.

    Raises:
        SettingError: the checkpoint is of another training.
        FileError: it cannot be written.
    """
    mean: list[float] = []

    with work.progress.bar(doing, steps) as bar:

        def told(step: int, loss: float) -> None:
            if not mean and step > 1:
                work.progress.say(f"going on from step {step - 1}")
            mean[:] = [loss if not mean else mean[0] + WEIGHT * (loss - mean[0])]
            bar.update(step, f"{mean[0]:.3f} {work.task.unit} of training text")

        return fit(training, folder=work.folder, on_step=told)
