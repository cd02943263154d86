"""The front of a study: its members in order, and the best known value of each of their numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import overload

from foundation.text import number_text
from nas.study.marks import rough_lines
from nas.study.trial import Trial, Value

STANDARD = ("bits_per_byte", "decode_ms", "weight_bytes", "params")
"""Numbers that are shown of a network besides the objectives."""

LAYERS = "layers"
NARROW = 30
"""Characters of a line of layers that can still be read."""

LEGEND = "~ is predicted, not measured"


@dataclass(frozen=True, kw_only=True)
class Front(Sequence[Trial]):
    """The members of a front; `numbers` are their best known values by digest and name.

    `dropped` members of the predicted front are dominated as measured. `table_errors` gives the mean errors
    of the latency tables behind the predictions, `layers` describes a network in a line, below the heading
    `described`. Printed, it is a table of the objectives, of what else is known of the numbers `besides`, and
    of the layers; `units` has those of numbers whose names do not say them.
    """

    name: str
    trials: tuple[Trial, ...]
    numbers: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    objectives: tuple[str, ...] = ()
    dropped: int = 0
    table_errors: Callable[[], Mapping[str, float]] = field(default=dict, repr=False, compare=False)
    layers: Callable[[Trial], str] | None = field(default=None, repr=False, compare=False)
    besides: tuple[str, ...] = STANDARD
    units: Mapping[str, str] = field(default_factory=dict)
    described: str = LAYERS

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Trial, ...]: ...
    def __getitem__(self, index: int | slice) -> Trial | tuple[Trial, ...]:
        return self.trials[index]

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def columns(self) -> list[str]:
        """The numbers that are shown: the objectives, and what else is known of every network."""
        wanted = dict.fromkeys([*self.objectives, *self.besides])
        return [name for name in wanted if any(name in known for known in self.numbers.values())]

    @property
    def head(self) -> list[str]:
        """The names of the columns of the table."""
        numbers = (f"{name} ({self.units[name]})" if name in self.units else name for name in self.columns)
        return ["trial", "digest", *numbers, *([self.described] if self.layers else [])]

    def fitting(self, width: int) -> Front:
        """With as many numbers besides the objectives as leave room for the layers in lines of `width`."""
        front = self
        while front.besides and front._width > width:
            front = replace(front, besides=front.besides[:-1])
        return front

    @property
    def _width(self) -> int:
        """Characters of a line with layers that are broken as narrowly as can be read."""
        columns = list(zip(self.head, *self.rows, strict=True))
        widths = [max(map(len, column)) for column in columns]
        if self.layers:
            widths[-1] = min(widths[-1], NARROW)
        return sum(widths) + 2 * (len(widths) - 1)

    @property
    def rows(self) -> list[list[str]]:
        """The text of the table, one row for each member: its number, digest, numbers and layers.

        Only a trial of the search is known by its number; each other stage counts its own.
        """
        return [
            [
                str(trial.number) if trial.stage == "search" else "",
                trial.digest,
                *(number_with_error(name, self.numbers[trial.digest].get(name)) for name in self.columns),
                *([self.layers(trial)] if self.layers else []),
            ]
            for trial in self.trials
        ]

    @property
    def legend(self) -> str:
        """What the marks in the table mean; empty where there are none."""
        shown = [
            {name: values[name] for name in self.columns if name in values}
            for values in self.numbers.values()
        ]
        predicted = any(value.is_predicted for known in shown for value in known.values())
        return "\n".join([*([LEGEND] if predicted else []), *rough_lines(shown, self.table_errors)])

    def __repr__(self) -> str:
        members = ", ".join(str(trial.number) for trial in self.trials[:8])
        more = ", …" if len(self.trials) > 8 else ""
        return f"<Front of {self.name!r}, {len(self.trials)} members: trials {members}{more}>"

    def __str__(self) -> str:
        table = [self.head, *self.rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
        return "\n".join([*lines, *([self.legend] if self.legend else [])])

    def _repr_html_(self) -> str:
        return html_table(self.head, self.rows, caption=self.legend)


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    """A table for a notebook."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    below = f"<caption style='caption-side: bottom'>{escape(caption)}</caption>" if caption else ""
    return f"<table>{below}{line('th', head)}{''.join(line('td', row) for row in rows)}</table>"


def number_with_error(name: str, value: Value | None) -> str:
    """A number of a network for people, with its marks: `~1.41 ± 0.05`; empty where it is not known."""
    if value is None:
        return ""
    text = number_text(name, value.value)
    return value.marked(text if value.error is None else f"{text} ± {value.error:.2g}")
