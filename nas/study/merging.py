"""Studies that may become one: over one space, with scores that mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.errors import SettingError
from foundation.settings import describe
from foundation.wording import argument
from nas.store import Store
from nas.store.moving import merge_studies
from nas.study.facts import CORPUS, OUTCOME, SUPERNET, TABLES, VALIDATION
from nas.study.plan import GOALS, LATENCY, TRAINING, Plan
from nas.study.study import Study

SCORING = (GOALS, TRAINING, LATENCY)
"""Headings of the settings that decide what a score means; how was searched may differ."""

FREE = ("trials", "constraints", "supernet", "latency_tables")
"""Settings under these headings that may differ; of the last two it counts what was read from them."""


def merge(store: Store, names: Sequence[str], new: str) -> Path:
    """Make one study of several in a store, which stay as they are; the folder of the new one.

    It has all their trials, with the settings and facts of the first, and goes on like any other.

    Raises:
        UnknownName: there is no such study.
        SettingError: fewer than two are named, one is named twice, or their scores do not mean the same.
        StoreError: the name is taken, or a process works on one of them.
        FileError: a file cannot be copied.
    """
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise SettingError(f"name at least two studies to merge, each once, got {', '.join(names) or 'none'}")
    first, *rest = studies = [Study(store, store.study(name)) for name in names]
    for study in rest:
        _require_alike(first, study)
    counted = sum(trial.counts for study in studies for trial in study.trials())
    facts = {name: fact for name, fact in first.facts.items() if name not in (OUTCOME, VALIDATION)}
    plan = {**first.plan.to_plain(), "trials": counted}
    return merge_studies(store, names, new, {**first.record.config, "plan": plan, "facts": facts})


def scoring_difference(first: Plan, second: Plan, free: Sequence[str] = FREE) -> str:
    """The first setting, not a `free` one, by which scores of two plans do not mean the same; else empty.

    Shared weights and latency tables are not settings: what was read from them is on the record of a study.
    """
    for described in describe(Plan):
        name = described.name
        if described.about.group not in SCORING or name in free or described.about.changeable:
            continue
        mine, theirs = getattr(first, name), getattr(second, name)
        if mine != theirs:
            return " and ".join(argument(name, v, option=described.option) for v in (mine, theirs))
    return ""


def _require_alike(first: Study, second: Study) -> None:
    if first.record.space_digest != second.record.space_digest:
        _refuse(first, second, "their spaces differ")
    if difference := scoring_difference(first.plan, second.plan):
        _refuse(first, second, difference)
    for what, of in (("texts", _corpus), ("shared weights", _weights), ("latency tables", _tables)):
        if of(first) != of(second):
            _refuse(first, second, f"their {what} differ")


def _refuse(first: Study, second: Study, why: str) -> None:
    raise SettingError(
        f"{first.name} and {second.name} cannot be merged, because their scores do not mean the same: {why}"
    )


def _corpus(study: Study) -> Any:
    return study.facts.get(CORPUS, {}).get("digest")


def _weights(study: Study) -> Any:
    """What tells one training of shared weights from another, of each task: the loss of every step."""
    return {name: fact.get("loss") for name, fact in study.facts.items() if name.startswith(SUPERNET)}


def _tables(study: Study) -> Any:
    return study.facts.get(TABLES)
