"""All numbers of one network in order: quantities, as predicted and as measured, scenario by scenario."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from dashboards.facts.networks import quantity_among
from dashboards.facts.quantities import Quantity
from nas.study.plan import SCENARIO_MARK
from nas.study.trial import Value

ORDER = (
    "bits_per_byte",
    "params",
    "weight_bytes",
    "decode_ms",
    "prefill_ms",
    "state_bytes",
    "state_bytes_per_token",
    "decode_flops",
    "prefill_flops",
    "peak_bytes",
    "prefill_peak_bytes",
    "decode_peak_bytes",
)
"""After the objectives, quantities come in this order; others follow by name."""

Numbers: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class NumberRow:
    """A quantity of a network. One that is exact or a score, neither predicted nor measured, is `known`.

    `steps` are those of a training from scratch that the number is the score of.
    """

    of: Quantity
    known: Value | None = None
    predicted: Value | None = None
    measured: Value | None = None
    steps: int | None = None

    @property
    def values(self) -> tuple[Value, ...]:
        """Those that there are."""
        return tuple(value for value in (self.known, self.predicted, self.measured) if value is not None)


@dataclass(frozen=True)
class NumberGroup:
    """The rows that hold in a scenario; the first group, without a `scenario`, holds everywhere."""

    scenario: str
    rows: tuple[NumberRow, ...]


def number_groups(
    values: Numbers,
    measured: Numbers,
    *,
    objectives: Sequence[Quantity],
    scenarios: Mapping[str, str],
    trained: Mapping[int, Value] | None = None,
) -> tuple[NumberGroup, ...]:
    """The numbers of a network: what holds everywhere, then what holds in each scenario.

    `values` are those of the search, `measured` those of the network as it was built and timed, `trained` its
    scores from scratch by training steps. `scenarios` are the texts of several, by name.
    """
    groups: dict[str, list[NumberRow]] = {"": [], **{name: [] for name in scenarios}}
    for name in _ordered({*values, *measured}, [objective.name for objective in objectives]):
        of = quantity_among(objectives, name)
        rows = groups.setdefault(name.partition(SCENARIO_MARK)[2], [])
        rows.append(_row(of, values.get(name), measured.get(name)))
        if of.scored:
            rows += [NumberRow(of=of, known=score, steps=s) for s, score in sorted((trained or {}).items())]
    return tuple(
        NumberGroup(scenarios.get(name, name) if name else "", tuple(rows))
        for name, rows in groups.items()
        if rows
    )


def _row(of: Quantity, value: Value | None, measured: Value | None) -> NumberRow:
    if measured is None and value is not None and not value.is_predicted:
        return NumberRow(of=of, known=value)
    return NumberRow(of=of, predicted=value, measured=measured)


def _ordered(names: Iterable[str], objectives: Sequence[str]) -> list[str]:
    first = list(dict.fromkeys([*objectives, *ORDER]))

    def place(name: str) -> tuple[int, str]:
        plain = name.partition(SCENARIO_MARK)[0]
        known = [first.index(each) for each in (name, plain) if each in first]
        return (known[0] if known else len(first)), name

    return sorted(names, key=place)
