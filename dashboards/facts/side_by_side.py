"""Networks of a study side by side: their numbers, their layers and their genes, with what differs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dashboards.facts.networks import architecture, layer_text, varying_in
from dashboards.facts.quantities import Quantity
from dashboards.facts.reading import Reading
from nas.study.trial import Trial, Value
from search_spaces.network.decoder import Decoder, Layer

NONE = "\N{EN DASH}"
"""In place of a layer or a gene that a network does not have."""

APART = 2.0
"""Standard errors of a difference beyond which two numbers are told apart."""


@dataclass(frozen=True)
class ComparedNumber:
    """One quantity of all networks; `best` is the index of the one that beats all others."""

    of: Quantity
    values: tuple[Value | None, ...]
    best: int | None

    @property
    def relative(self) -> tuple[float | None, ...]:
        """By how much each differs from the first, as a share of it; None where that says nothing."""
        first = self.values[0]
        if first is None or not first.value:
            return (None,) * len(self.values)
        return tuple(None if each is None else each.value / first.value - 1 for each in self.values)


@dataclass(frozen=True)
class ComparedText:
    """One part of all networks as text; `differs` says which are not like the first."""

    name: str
    texts: tuple[str, ...]

    @property
    def differs(self) -> tuple[bool, ...]:
        """One answer for each network."""
        return tuple(text != self.texts[0] for text in self.texts)


@dataclass(frozen=True)
class SideBySide:
    """Numbers, layers from the first one on, and the genes that are not the same in all networks."""

    digests: tuple[str, ...]
    numbers: tuple[ComparedNumber, ...]
    layers: tuple[ComparedText, ...]
    genes: tuple[ComparedText, ...]


def side_by_side(reading: Reading, trials: Sequence[Trial]) -> SideBySide:
    """What is known of networks of one study, the numbers as measured where that was done."""
    measured = reading.measured
    known = [{**trial.values, **measured.get(trial.digest, {})} for trial in trials]
    numbers = []
    for of in reading.quantities():
        values = tuple(each.get(of.name) for each in known)
        if any(value is not None for value in values):
            numbers.append(ComparedNumber(of, values, best_of(of, values)))
    return SideBySide(
        tuple(trial.digest for trial in trials), tuple(numbers), _layers(reading, trials), _genes(trials)
    )


def best_of(of: Quantity, values: Sequence[Value | None]) -> int | None:
    """The index of the value that is better than all others by more than `APART` standard errors."""
    sign = -1.0 if of.maximise else 1.0
    known = [(sign * value.value, i) for i, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return None
    (least, best), *others = sorted(known)
    for value, i in others:
        errors = [values[place] for place in (best, i)]
        error = math.hypot(*(each.error or 0.0 for each in errors if each is not None))
        if value - least <= APART * error:
            return None
    return best


def _layers(reading: Reading, trials: Sequence[Trial]) -> tuple[ComparedText, ...]:
    """The width and the layers of decoders; nothing where one of the networks is none."""
    specs = [architecture(reading.study, trial) for trial in trials]
    plain = [spec for spec in specs if isinstance(spec, Decoder)]
    if len(plain) < len(specs) or not all(isinstance(each, Layer) for spec in plain for each in spec.layers):
        return ()
    columns = []
    for spec, trial in zip(plain, trials, strict=True):
        varying = varying_in(reading.study, trial, spec)
        columns.append([layer_text(layer, varying) for layer in spec.layers])
    rows = [ComparedText("width", tuple(str(spec.d_model) for spec in plain))]
    for i in range(max(map(len, columns), default=0)):
        texts = tuple(column[i] if i < len(column) else NONE for column in columns)
        rows.append(ComparedText(f"layer {i}", texts))
    return tuple(rows)


def _genes(trials: Sequence[Trial]) -> tuple[ComparedText, ...]:
    paths = dict.fromkeys(path for trial in trials for path in trial.genotype.genes)
    rows = [
        ComparedText(path, tuple(str(trial.genotype.genes.get(path, NONE)) for trial in trials))
        for path in paths
    ]
    return tuple(row for row in rows if any(row.differs))
