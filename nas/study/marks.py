"""Marks at numbers: what a reader is told about them, once, beside the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from foundation.text import listed, percent
from nas.study.plan import Plan
from nas.study.trial import ROUGH_MARK, Value


def rough_lines(
    numbers: Iterable[Mapping[str, Value]], errors: Callable[[], Mapping[str, float]] = dict
) -> list[str]:
    """Why numbers of these networks are marked as rough, and what to make of it; empty where none is.

    `errors` gives those of the study's latency tables by the name of the number (`Study.table_errors`).
    """
    rough = [(name, value) for values in numbers for name, value in values.items() if value.rough]
    predicted = sorted({name for name, value in rough if value.is_predicted})
    unsettled = sorted({name.removesuffix("_measured") for name, value in rough if not value.is_predicted})
    lines = []
    if predicted:
        known = errors()
        told = error_words({name: known[name] for name in predicted if name in known})
        lines.append(
            f"{ROUGH_MARK} rough: predicted by a latency table that errs on whole networks"
            f"{', ' if told else ''}{told}; rely on measured values where there are some"
        )
    if unsettled:
        measured = f"{listed(unsettled)} {'was' if len(unsettled) == 1 else 'were'} measured"
        lines.append(
            f"{ROUGH_MARK} rough: the machine was busy while {measured}; the error says"
            " how far it may be off, so networks that differ by less count as equal"
        )
    return lines


def table_errors(plan: Plan, tables: Mapping[str, Any]) -> dict[str, float]:
    """The mean errors of latency tables on held-out networks, by the name of the number in the plan's study.

    `tables` are the facts on record about them, by scenario.
    """
    found = {}
    for scenario in plan.scenarios:
        about = tables.get(scenario.name)
        for reading, accuracy in about.items() if isinstance(about, Mapping) else ():
            if isinstance(accuracy, Mapping) and isinstance(accuracy.get("mape"), float):
                found[plan.under(reading, scenario)] = accuracy["mape"]
    return found


def error_words(errors: Mapping[str, float]) -> str:
    """The errors of readings as text: `decode_ms by 14.2 %`."""
    return ", ".join(f"{reading} by {percent(mape)}" for reading, mape in errors.items())
