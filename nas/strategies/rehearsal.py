"""A sampler proposes for a toy space before a search begins, so that its settings do not end one midway.

Constructors of samplers take values which only a proposal shows to be none: no candidates to choose from, a
width of zero. So a sampler is asked until it proposes in earnest, which may be after a number of random
candidates that a setting names.
"""

from __future__ import annotations

import time
from functools import cache

import optuna
from optuna.study import StudyDirection

from foundation.errors import EvaluationFailed, SettingError
from foundation.settings import describe
from nas.strategies.sampler_settings import SamplerSettings, quiet
from nas.study.own_code import own_code

LEAST, MOST = 11, 120
"""Proposals: some samplers begin with 10 random ones without a setting that says so."""

SECONDS = 3.0
"""After which no further proposal is asked for."""

KINDS = "abc"


@cache
def rehearse(settings: SamplerSettings, directions: tuple[StudyDirection, ...]) -> None:
    """Propose candidates of a toy space, and hear their outcomes, under settings and so many objectives.

    What shows after more than `MOST` proposals, or after seconds of them, is not found.

    Raises:
        SettingError: a proposal fails.
    """
    begun = time.monotonic()
    with quiet():
        study = optuna.create_study(directions=directions)
        study.stop = lambda: None  # type: ignore[method-assign]  # some samplers end a study
        for number in range(_proposals(settings)):
            if time.monotonic() > begun + SECONDS:
                return
            try:
                with own_code("the sampler", "optuna"):
                    study.sampler = settings.sampler(number)
                    trial = study.ask()
                    value = trial.suggest_int("place", 0, 9) + trial.suggest_int("width", 0, 3) / 2
                    value += KINDS.index(trial.suggest_categorical("kind", KINDS))
                    study.tell(trial, [value if goal % 2 else 10 - value for goal in range(len(directions))])
            except EvaluationFailed as error:
                raise SettingError(f"{settings.title}: {error}{_suspects(settings)}") from None


def _proposals(settings: SamplerSettings) -> int:
    """One more than the largest whole number among the settings, which may be one of random candidates."""
    numbers = [value for value in settings.to_plain().values() if type(value) is int]
    return min(max([LEAST, *(number + 1 for number in numbers)]), MOST)


def _suspects(settings: SamplerSettings) -> str:
    """The settings that are not as they are by default."""
    plain = settings.to_plain()
    given = [
        f"{described.name}={plain[described.name]}"
        for described in describe(type(settings))
        if plain[described.name] != described.default
    ]
    return f", with {', '.join(given)}" if given else ""
