"""A network for readers: its name, its architecture in one line and in full, numbers with their errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dashboards.facts.quantities import Quantity
from foundation.errors import NasError
from nas.study.given_networks import is_given
from nas.study.network_lines import around_text, counted_runs, layer_line
from nas.study.objective_records import known_objective
from nas.study.study import Study
from nas.study.trial import Trial, Value
from search_spaces.language.printing import brief, show
from search_spaces.language.varying import Varying, differing_fields, joined, told
from search_spaces.network.decoder import Decoder, Layer, has_plain_layers

LINE_LENGTH = 240
WIDE, BETWEEN = " wide", " | "
"""What stands in one line after the width of a decoder, and between its layers."""


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """One architecture: `one_line` is its short form, `layers` its full one; `tied` as in `Point`.

    `outdone` says that another member of the front dominates it as measured, so that `Study.front` lacks it.
    """

    digest: str
    number: int
    one_line: str
    layers: str
    values: Mapping[str, Value]
    measured: Mapping[str, Value] = field(default_factory=dict)
    tied: bool = False
    outdone: bool = False

    @property
    def best_known(self) -> dict[str, Value]:
        """Its numbers as measured where that was done, else as the search knew them."""
        return {**self.values, **self.measured}


def quantity(name: str, study: Study | None = None) -> Quantity:
    """An objective's name, unit and direction, of a user's own as its study has them on record.

    Of a user's own function, and without a study, only the name.

    Raises:
        StoreError: the record is malformed.
    """
    objective = known_objective(name, {}) if study is None else study.known(name)
    return Quantity(name, objective.unit, objective.maximise, scored=bool(objective.task))


def quantity_among(known: Iterable[Quantity], name: str) -> Quantity:
    """The one of this name among those of a study, else as it is registered."""
    return next((each for each in known if each.name == name), None) or quantity(name)


def architecture(study: Study, trial: Trial) -> Any:
    """The architecture of a trial; None where the space has parts that are not registered here."""
    try:
        return study.spec(trial)
    except (NasError, KeyError):
        return None


def one_line_of(study: Study, trial: Trial) -> str:
    """The architecture of a trial in one line."""
    spec = architecture(study, trial)
    if spec is None:
        return _cut(", ".join(f"{path}={label}" for path, label in sorted(trial.genotype.genes.items())))
    if not has_plain_layers(spec):
        return _cut(brief(spec))
    varying = varying_in(study, trial, spec)
    runs = counted_runs(layer_text(layer, varying) for layer in spec.layers)
    return f"{spec.d_model}{WIDE}: {BETWEEN.join([*runs, *around_text(spec, varying)])}"


def varying_in(study: Study, trial: Trial, spec: Decoder) -> Varying:
    """The fields that are told of a network: those that vary in its space, else among its layers."""
    if not is_given(trial.genotype):
        return study.varying
    return joined(differing_fields(spec.layers), {"Bits": frozenset({"weight", "state"})})


def parts_of(one_line: str) -> list[str]:
    """The width and the layers that `one_line_of` wrote."""
    width, colon, layers = one_line.partition(f"{WIDE}: ")
    return [f"{width}{WIDE}", *layers.split(BETWEEN)] if colon else one_line.split(BETWEEN)


def layers_of(study: Study, trial: Trial) -> str:
    """The architecture of a trial, layer by layer."""
    spec = architecture(study, trial)
    if spec is None:
        return "\n".join(f"{path} = {label}" for path, label in sorted(trial.genotype.genes.items()))
    return str(spec) if isinstance(spec, Decoder) else show(spec)


def layer_text(layer: Layer, varying: Varying) -> str:
    """A layer by the kinds of its blocks and what varies: `Attention(num_kv_heads=2) + SwiGLU w4 s8`."""
    return layer_line(layer, varying, " + ", _told)


def _told(block: Any, varying: Varying) -> str:
    """Its kind, with the fields that vary; a window that is always there, as part of the kind."""
    window = None if "window" in varying.get(type(block).__name__, ()) else getattr(block, "window", None)
    return f"{told(block, varying)} window {window}" if window else told(block, varying)


def kind_of(block: Any) -> str:
    """What kind of block this is; the window of windowed attention is part of it."""
    window = getattr(block, "window", None)
    return f"{type(block).__name__} window {window}" if window else type(block).__name__


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= LINE_LENGTH else f"{flat[: LINE_LENGTH - 1]}…"
