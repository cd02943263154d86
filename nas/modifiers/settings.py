"""What modifiers work with and where, as settings, which the command line names before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from evaluators.tasks.base import OfTask
from foundation.settings import MANY, SEEDS, Settings, setting


@dataclass(frozen=True, kw_only=True)
class TextSettings(OfTask, Settings):
    """The text that is calibrated and trained on, and that every figure is of."""

    task: str = setting("language", help="What the network does: language or recall.")
    data: str | None = setting(
        None,
        help="A folder or file of text, or a corpus of `nas corpus`.",
        metavar="PATH",
        shown="that of the network's training, or the standard library's own source",
    )
    window: int | None = setting(
        None, help="Tokens of a sequence.", least=1, most=MANY, shown="the task's own"
    )
    validation_windows: int | None = setting(
        None, help="Sequences that figures are means of.", least=2, most=MANY, shown="the task's own"
    )
    seed: int = setting(0, help="Random seed of the calibration and of trainings.", least=0, most=SEEDS)


@dataclass(frozen=True, kw_only=True)
class ModificationSettings(TextSettings):
    """The text that modifiers work with, and the device that computes."""

    train_on: str = setting(
        "cpu", help="Device that modifies, trains and scores: cpu, or cuda:0.", metavar="DEVICE"
    )
