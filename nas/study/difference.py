"""Two networks of a study side by side: their layers, and how significantly their numbers differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from foundation.text import number_text
from nas.study.front import LEGEND, html_table, number_with_error
from nas.study.marks import rough_lines
from nas.study.significance import SIGNIFICANT, standardised_difference
from nas.study.study import Study
from nas.study.trial import MEASURED, STAGES, Trial, TrialState, Value
from search_spaces.network.decoder import Decoder, Layer, strip

MARK = "\N{NOT EQUAL TO}"
EXACT = {"counted", "function"}
"""Sources of numbers that are computed of the architecture alone: they have no error."""


@dataclass(frozen=True)
class NumberPair:
    """One number of both networks, known in the same way; None where it is not known of one."""

    name: str
    first: Value | None
    second: Value | None

    @property
    def difference(self) -> float | None:
        """The second less the first, in their unit."""
        return self.second.value - self.first.value if self.first and self.second else None

    @property
    def standard_errors(self) -> float | None:
        """The size of the difference in units of its standard error; None where no error is known.

        Scores are compared window by window; see `nas.study.significance`.
        """
        return standardised_difference(self.first, self.second) if self.first and self.second else None

    @property
    def verdict(self) -> str:
        """How sure the difference is, in words; empty where there is nothing to compare."""
        if self.difference is None or not self.first or not self.second:
            return ""
        errors = self.standard_errors
        if self.difference == 0:
            return "the same"
        if errors is None:
            exact = {self.first.source, self.second.source} <= EXACT
            return "exact" if exact else "no error known"
        sure = "significant" if errors >= SIGNIFICANT else "within noise"
        return sure if math.isinf(errors) else f"{sure} ({errors:.1f} s.e.)"

    @property
    def cells(self) -> list[str]:
        """A row of a table: name, both numbers, their difference, and how sure it is."""
        values = [number_with_error(self.name, value) for value in (self.first, self.second)]
        shown = "" if self.difference is None else _signed(self.name, self.difference)
        return [self.name, *values, shown, self.verdict]


@dataclass(frozen=True, repr=False)
class NetworkDifference:
    """Two networks; `layers` are places with what stands there in each. Printed, it is two tables."""

    first: Trial
    second: Trial
    layers: tuple[tuple[str, str, str], ...]
    numbers: tuple[NumberPair, ...]
    table_errors: Callable[[], Mapping[str, float]] = field(default=dict, repr=False, compare=False)

    @property
    def head(self) -> list[str]:
        """The headings of both networks."""
        return [f"trial {trial.number} {trial.digest}" for trial in (self.first, self.second)]

    @property
    def layer_rows(self) -> list[list[str]]:
        """Rows of a table of layers: place, first, second, and a mark where they differ."""
        return [[place, a, b, "" if a == b else MARK] for place, a, b in self.layers]

    @property
    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """Heads and rows: of the layers, and of the numbers."""
        return [
            (["layer", *self.head, ""], self.layer_rows),
            (["number", *self.head, "difference", "significance"], [pair.cells for pair in self.numbers]),
        ]

    @property
    def legend(self) -> list[str]:
        """What the table of numbers means: which is subtracted from which, and its marks."""
        known = [(pair.name, value) for pair in self.numbers for value in (pair.first, pair.second) if value]
        predicted = any(value.is_predicted for _, value in known)
        return [
            f"difference: trial {self.second.number} less trial {self.first.number}; s.e.: standard errors of"
            f" the difference, significant from {SIGNIFICANT}",
            *([LEGEND] if predicted else []),
            *rough_lines([{name: value} for name, value in known], self.table_errors),
        ]

    def __repr__(self) -> str:
        return f"<NetworkDifference of trials {self.first.number} and {self.second.number}>"

    def __str__(self) -> str:
        lines: list[str] = []
        for head, rows in self.tables:
            widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
            lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
        return "\n".join([*lines, *self.legend])

    def _repr_html_(self) -> str:
        layers, numbers = (html_table(head, rows) for head, rows in self.tables)
        return f"{layers}{numbers}" + "".join(f"<p>{escape(line)}</p>" for line in self.legend)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "trials": [self.first.number, self.second.number],
            "digests": [self.first.digest, self.second.digest],
            "layers": [{"place": place, "values": [a, b], "differs": a != b} for place, a, b in self.layers],
            "numbers": [_pair_json(pair) for pair in self.numbers],
        }


def difference_of(study: Study, first: Trial, second: Trial) -> NetworkDifference:
    """Two networks of a study side by side.

    Like is compared with like: predicted with predicted, measured with measured, and scores of the same
    evaluator after as many training steps.

    Raises:
        StoreError: an architecture cannot be read.
    """
    numbers = [_numbers(study, trial) for trial in (first, second)]
    names = dict.fromkeys(name for known in numbers for name in known)
    pairs = tuple(NumberPair(name, numbers[0].get(name), numbers[1].get(name)) for name in names)
    return NetworkDifference(first, second, _places(study, first, second), pairs, study.table_errors)


def _numbers(study: Study, trial: Trial) -> dict[str, Value]:
    """Everything that is known of a network, by names that say how."""
    measured = study.measured().get(trial.digest, {})
    scores = [score.name for score in study.scores]
    numbers: dict[str, Value] = {}
    for stage in STAGES:
        for other in study.trials(stage):
            if other.digest == trial.digest and other.state is TrialState.COMPLETE:
                how = other.fidelity
                for score in filter(other.values.__contains__, scores):
                    numbers[f"{score}, {how.evaluator} {how.steps} steps"] = other.values[score]
    for name, value in trial.values.items():
        if name not in scores:
            numbers[name] = value
        if name in measured:
            numbers[f"{name}{MEASURED}"] = measured[name]
    return {**numbers, **{f"{name}{MEASURED}": value for name, value in measured.items()}}


def _places(study: Study, first: Trial, second: Trial) -> tuple[tuple[str, str, str], ...]:
    """Layers, or the genes of architectures that have none."""
    one, other = (study.spec(trial) for trial in (first, second))
    if all(isinstance(spec, Decoder) and _plain(spec.layers) for spec in (one, other)):
        return side_by_side(one, other)
    columns = [{path: str(label) for path, label in t.genotype.genes.items()} for t in (first, second)]
    return _aligned(*columns)


def side_by_side(first: Decoder, second: Decoder) -> tuple[tuple[str, str, str], ...]:
    """Places with what stands there in either: the width, and the layers from the embedding on."""
    columns = [{"width": str(spec.d_model), **_layers(spec.layers)} for spec in (first, second)]
    return _aligned(*columns)


def _aligned(first: Mapping[str, str], second: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    places = dict.fromkeys([*first, *second])
    return tuple((place, first.get(place, ""), second.get(place, "")) for place in places)


def _plain(layers: Sequence[Any]) -> bool:
    return all(isinstance(layer, Layer) for layer in layers)


def _layers(layers: Sequence[Layer]) -> dict[str, str]:
    return {str(index): strip(layer) for index, layer in enumerate(layers)}


def _signed(name: str, difference: float) -> str:
    """A difference with its sign, in the units of the number: `-18 kB`."""
    size = abs(difference)
    text = f"{size:.3g}" if size < 1000 else number_text(name, size)
    return f"{'-' if difference < 0 else '+'}{text}"


def _pair_json(pair: NumberPair) -> dict[str, Any]:
    return {
        "name": pair.name,
        "values": [value and value.to_json() for value in (pair.first, pair.second)],
        "difference": pair.difference,
        "standard_errors": None if pair.standard_errors == math.inf else pair.standard_errors,
        "verdict": pair.verdict,
    }
