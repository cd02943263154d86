"""A network layer by layer: what stands there, and what each layer costs in everything that is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from dashboards.facts.networks import kind_of
from foundation.errors import NasError
from foundation.text import percent
from hw_profiles.latency.by_layer import LayerTimes, layer_times
from hw_profiles.latency.table import LatencyTable
from nas.study.study import Study
from nas.tables.study_tables import load_given, table_path
from search_spaces.blocks.base import Block
from search_spaces.language.printing import brief
from search_spaces.network.cost import block_state_bytes, block_weight_bytes, parameter_shapes
from search_spaces.network.decoder import Decoder, Layer, has_plain_layers
from search_spaces.network.options.base import option_bytes
from search_spaces.scenario import Scenario

PRECISE = "channel_mixer"
"""The place whose block may read its weights at a precision of the token."""

READINGS = ("prefill_ms", "decode_ms")

ATTENTION, WINDOWED, RECURRENT, STATELESS = (
    "attention",
    "attention in a window",
    "recurrence or convolution",
    "sequence mixer without a state",
)
DENSE, EXPERTS = "perceptron", "mixture of experts"
FAMILIES = (ATTENTION, WINDOWED, RECURRENT, STATELESS, DENSE, EXPERTS)
"""What blocks are told apart by: what their state does, and whether all weights work on every token."""


@dataclass(frozen=True, kw_only=True)
class BlockFacts:
    """A block at its place in a layer. `width` is its weights per channel: parameters / d_model.

    `low_bits` are those at which some tokens read its weights, where precision is chosen token by token.
    """

    place: str
    kind: str
    text: str
    family: str
    width: float
    params: int
    weight_bits: float
    activation_bits: float
    state_bits: float
    low_bits: int | None = None


@dataclass(frozen=True, kw_only=True)
class LayerFacts:
    """One layer: its blocks, its options in words, and its costs by name."""

    index: int
    blocks: tuple[BlockFacts, ...]
    shared: str = ""
    again: bool = False
    router: str = ""
    exit: str = ""
    notes: tuple[str, ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A decoder layer by layer; `around` are the costs of embedding, last norm and head.

    `timed` says in which scenario the latencies of `costs` were predicted; empty where no table is there.
    `overheads` are milliseconds by reading that belong to no layer.
    """

    d_model: int
    vocab: int
    layers: tuple[LayerFacts, ...]
    around: Mapping[str, float]
    timed: str = ""
    overheads: Mapping[str, float] = field(default_factory=dict)

    @property
    def costs(self) -> tuple[str, ...]:
        """The names of what is known of the layers, in order."""
        return tuple(name for name in COSTS if any(name in layer.costs for layer in self.layers))


COSTS = ("prefill_ms", "decode_ms", "params", "weight_bytes", "state_bytes")
"""What is told of every layer."""


def anatomy(spec: Any, scenario: Scenario, table: LatencyTable | None = None) -> Anatomy | None:
    """The layers of a decoder in a scenario; None for anything else."""
    if not has_plain_layers(spec):
        return None
    times: Mapping[str, LayerTimes] = {}
    try:
        times = layer_times(table, spec) if table is not None else {}
    except NasError:  # a block that this table does not know has no latency in it
        table = None
    seen: set[str] = set()
    layers = []
    for index, layer in enumerate(spec.layers):
        again = layer.shared is not None and layer.shared in seen
        seen |= {layer.shared} if layer.shared is not None else set()
        layers.append(_layer(spec, index, scenario, times, again=again))
    shell, prompt = spec.shell, spec.soft_prompt
    more = 0 if prompt is None else prompt.params(spec.d_model, spec.layers)
    around = {
        "params": float(shell.cost(scenario).params + more),
        "weight_bytes": float(shell.stored_bytes + 4 * more),
    }
    return Anatomy(
        d_model=spec.d_model,
        vocab=spec.vocab,
        layers=tuple(layers),
        around={**{name: found.around for name, found in times.items()}, **around},
        timed=str(table.scenario) if table is not None else "",
        overheads={name: found.overhead for name, found in times.items()},
    )


def _layer(
    spec: Decoder, index: int, scenario: Scenario, times: Mapping[str, LayerTimes], *, again: bool
) -> LayerFacts:
    layer = spec.layers[index]
    params = 0 if again else spec.layer_sizes(layer)[0]
    stored = 0 if again else _stored_bytes(spec, layer)
    state = _state_bytes(spec, layer, scenario)
    costs = {name: found.layers[index] for name, found in times.items()}
    notes = ["both halves read the same input"] * layer.parallel + [
        "reads the embedding"
    ] * layer.reads_embedding
    if layer.precision is not None:
        share, low = percent(1 - layer.precision.share), layer.precision.low
        notes.append(f"{share} of tokens read the channel mixer at {low} bits")
    return LayerFacts(
        index=index,
        blocks=tuple(_block(layer, place, spec.d_model) for place in layer.blocks),
        shared=layer.shared or "",
        again=again,
        router=f"router: {percent(layer.routing.capacity)} of tokens pass" if layer.routing else "",
        exit=f"exit: {brief(layer.exit)}" if layer.exit else "",
        notes=tuple(notes),
        costs={**costs, "params": float(params), "weight_bytes": float(stored), "state_bytes": float(state)},
    )


def _stored_bytes(spec: Decoder, layer: Layer) -> int:
    stored = 4 * len(layer.blocks) * spec.norm.sublayer_params(spec.d_model)
    stored += sum(option_bytes(present, spec.shell) for present in layer.options.values())
    blocks = layer.blocks.items()
    return stored + sum(block_weight_bytes(b, spec.d_model, layer.bits_at(p).stored) for p, b in blocks)


def _state_bytes(spec: Decoder, layer: Layer, scenario: Scenario) -> int:
    tokens = layer.tokens(scenario.context)
    blocks = layer.blocks.items()
    one = sum(block_state_bytes(b, spec.d_model, layer.bits_at(p).state, tokens) for p, b in blocks)
    return one * scenario.batch


def _block(layer: Layer, place: str, d_model: int) -> BlockFacts:
    block, bits, precision = layer.blocks[place], layer.bits_at(place), layer.precision
    params = sum(prod(shape) for shape in parameter_shapes(block, d_model).values())
    return BlockFacts(
        place=place,
        kind=kind_of(block),
        text=brief(block),
        family=family_of(block, d_model),
        width=params / d_model,
        params=params,
        weight_bits=bits.weight,
        activation_bits=bits.activation,
        state_bits=bits.state,
        low_bits=None if precision is None or place != PRECISE else precision.low,
    )


def family_of(block: Block, d_model: int) -> str:
    """The family of a block, one of `FAMILIES`."""
    if block.mixes == "channels":
        return EXPERTS if hasattr(block, "num_experts") else DENSE
    shapes = block.state(d_model).values()
    if any(shape.per_token and shape.limit is None for shape in shapes):
        return ATTENTION
    if any(shape.per_token for shape in shapes):
        return WINDOWED
    return RECURRENT if shapes else STATELESS


def table_of(study: Study, scenario: Scenario) -> LatencyTable | None:
    """The table that a study has for a scenario, given or its own; None where it cannot be read."""
    plan = study.plan
    try:
        for source in plan.latency_tables:
            given = load_given(source, plan.time_on)
            if given.scenario == scenario:
                return given
        path = table_path(study.folder / "table.json", scenario, len(plan.scenarios))
        return LatencyTable.load(path, allow_other_machine=True) if path.exists() else None
    except NasError:
        return None
