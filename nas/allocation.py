"""What can be shared out among the parts of a network, and what it takes: bits, or zeros."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from evaluators.compression.calibration import LayerByLayer, Moments, tiled
from evaluators.compression.gptq import gptq_at_each
from foundation.errors import SettingError
from foundation.settings import MANY, Settings, setting
from nas.modifiers.base import Changed, Work, layer_matrices
from nas.modifiers.prune import METHODS as PRUNING
from nas.modifiers.prune import Prune
from nas.modifiers.quantize import METHODS as ROUNDING
from nas.modifiers.quantize import Quantize
from search_spaces.network.additive_cost import Difference, Total, prices
from search_spaces.network.decoder import PLACES, Decoder, weights_site
from search_spaces.network.model import Model
from search_spaces.quantization.bits import GROUPS, WeightFormat
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario

SIZE, TIMES = "size", ("prefill_ms", "decode_ms")
"""What may be bounded: bytes of weights or weights that are not zero, or milliseconds."""


@dataclass(frozen=True, kw_only=True)
class AllocationSettings(Settings):
    """Values that parts may have, how they are given, and what is bounded."""

    like: float | None = setting(
        None, help="The value that all parts would have.", above=0, most=16, shown="4 bits, or a share of 0.5"
    )
    options: tuple[float, ...] = setting(
        (),
        help="Values that a part may have.",
        above=0,
        most=16,
        metavar="VALUE,...",
        shown="8,6,4,3,2 bits, or shares from 0.1 to 0.9",
    )
    method: str | None = setting(
        None, help="How it is rounded or pruned.", choices=(*ROUNDING, *PRUNING[1:]), shown="gptq, or wanda"
    )
    group: int = setting(64, help="Weights that would share a scale in all parts.", choices=GROUPS)
    groups: tuple[int, ...] = setting(
        (32, 64, 128), help="Weights that may share a scale.", choices=GROUPS, metavar="WEIGHTS,..."
    )
    under: str = setting(SIZE, help="What is no more than with equal values.", choices=(SIZE, *TIMES))
    table: str | None = setting(
        None, help="The latency table of --under: a file, or an imported one.", metavar="TABLE", shown="none"
    )
    calibration: int = setting(64, help="Windows of training text to calibrate on.", least=1, most=MANY)


class Kind(ABC):
    """What is shared out among the parts of a model: what a value does to one, and what it takes.

    Without `work`, of a model on the meta device, only `parts` and `values` can be asked for.
    """

    usual: tuple[float, ...]
    usual_like: float

    def __init__(self, settings: AllocationSettings, model: Model, work: Work | None) -> None:
        self.settings, self.model = settings, model
        self._work, self._moments = work, dict[str, Moments]()
        self.parts: dict[str, list[str]] = {}  # the matrices of each; those that layers share are there once
        for name in layer_matrices(model):
            self.parts.setdefault(self.part_of(name), []).append(name)

    @property
    def work(self) -> Work:
        """Text to calibrate on."""
        assert self._work is not None
        return self._work

    @property
    def equal_value(self) -> float:
        """What all parts would have: bits, or a share."""
        return float(self.usual_like if self.settings.like is None else self.settings.like)

    @property
    def numbers(self) -> list[float]:
        """Bits, or shares, that of equal ones among them."""
        return sorted({*map(float, self.settings.options or self.usual), self.equal_value})

    @property
    @abstractmethod
    def values(self) -> list[Any]:
        """What a part may have."""

    @property
    @abstractmethod
    def like(self) -> Any:
        """What all parts would have otherwise; one of the values."""

    @staticmethod
    @abstractmethod
    def uniform(settings: AllocationSettings, number: float) -> Any:
        """The modifier that gives all parts these bits or this share.

        Raises:
            SettingError: there is no such value.
        """

    @staticmethod
    @abstractmethod
    def part_of(name: str) -> str:
        """The part that a matrix belongs to."""

    @abstractmethod
    def alone(self, part: str) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        """Each value with the weights that a part has at it."""

    @abstractmethod
    def amount(self, part: str, value: Any, weights: Mapping[str, Tensor]) -> float:
        """What a part takes at a value, where it has these weights."""

    @abstractmethod
    def made(self, chosen: Mapping[str, Any]) -> Changed:
        """Another network, in which every part has its value."""

    @abstractmethod
    def shown(self, value: Any) -> str:
        """A value in a record."""

    @cached_property
    def _reading(self) -> LayerByLayer:
        return LayerByLayer(self.model, self.work.calibration(self.settings.calibration))

    def moments(self, part: str) -> Moments:
        """Of the inputs of the matrices of the layer that a part is in, as the network was."""
        layer = part.split(".")[1]
        if layer not in self._moments:
            names = {n for names in self.parts.values() for n in names if n.split(".")[1] == layer}
            self._moments = {layer: self._reading.moments(int(layer), names)}
        return self._moments[layer]


class BitsOf(Kind):
    """Bits of the weights of a sublayer, and how many share a scale: their bytes, or the predicted time."""

    usual, usual_like = (8, 6, 4, 3, 2), 4

    @property
    def values(self) -> list[WeightFormat]:
        """Bits and groups."""
        groups = dict.fromkeys((self.settings.group, *self.settings.groups))
        return [WeightFormat(int(bits), group) for bits in self.numbers for group in groups]

    @property
    def like(self) -> WeightFormat:
        """Equal bits and groups."""
        return WeightFormat(int(self.equal_value), self.settings.group)

    @staticmethod
    def uniform(settings: AllocationSettings, number: float) -> Quantize:
        """Rounded to so many bits."""
        if settings.method not in (None, *ROUNDING):
            raise SettingError(f"allocate: bits are rounded by {', '.join(ROUNDING)}, got {settings.method}")
        whole: Any = int(number) if number == int(number) else number
        method, calibration = settings.method or "gptq", settings.calibration
        return Quantize(bits=whole, method=method, group=settings.group, calibration=calibration)

    @staticmethod
    def part_of(name: str) -> str:
        """The sublayer: `layers.0.sequence_mixer`."""
        return ".".join(name.split(".")[:3])

    def alone(self, part: str) -> Iterator[tuple[WeightFormat, dict[str, Tensor]]]:
        """See `Kind.alone`: by GPTQ, or to nearest, which is what AWQ's scales are for."""
        by_gptq = self.settings.method in (None, "gptq")
        moments = self.moments(part) if by_gptq else {}
        weights: dict[WeightFormat, dict[str, Tensor]] = {value: {} for value in self.values}
        for name in self.parts[part]:
            weight, parts = self.model.get_parameter(name).detach(), moments.get(name, {})
            if by_gptq and tiled(weight, parts):
                rounded = gptq_at_each(weight, parts, self.values)
            else:
                rounded = {stored: round_to_bits(weight, stored) for stored in self.values}
            for stored, values in rounded.items():
                weights[stored][name] = values
        yield from weights.items()

    def amount(self, part: str, value: WeightFormat, weights: Mapping[str, Tensor]) -> float:
        """See `Kind.amount`: the difference of two networks."""
        there = Difference(self._spec({part: value}), self.model.spec)
        return prices(self._total, [there])[there]

    @cached_property
    def _total(self) -> Total:
        """Bytes of networks, or their milliseconds."""
        from nas.objectives.base import CostModel, objectives  # a command line shall not load tables
        from nas.tables.library import named_table

        settings = self.settings
        if settings.table is None or settings.under == SIZE:
            return lambda specs: [float(spec.cost(Scenario()).weight_bytes) for spec in specs]
        table = named_table(settings.table)
        return objectives[settings.under].of_networks(CostModel.of([table.scenario], {table.scenario: table}))

    def made(self, chosen: Mapping[str, WeightFormat]) -> Changed:
        """See `Kind.made`: rounded one after the other."""
        rounding = self.uniform(self.settings, self.equal_value)
        return rounding.rounded_to(self._spec(chosen), deepcopy(self.model), self.work)

    def shown(self, value: WeightFormat) -> str:
        """Bits, with the group where it is another one."""
        return f"{value.bits}" + ("" if value.group == self.settings.group else f"/{value.group}")

    def _spec(self, chosen: Mapping[str, WeightFormat]) -> Decoder:
        """The configuration with these formats at these places, also where layers share their weights."""
        first: dict[str, int] = {}
        layers = []
        for index, layer in enumerate(self.model.spec.layers):
            own = first.setdefault(weights_site(layer.shared, index), index)
            bits = {place: layer.bits_at(place) for place in PLACES}
            for place in PLACES:
                if stored := chosen.get(f"layers.{own}.{place}"):
                    bits[place] = replace(
                        bits[place], weight=int(stored.bits), group=stored.group, numbers="int"
                    )
            layers.append(replace(layer, bits=bits[PLACES[0]], channel_bits=bits[PLACES[1]]))
        return replace(self.model.spec, layers=tuple(layers))


class SparsityOf(Kind):
    """Shares of zeros in a matrix, and the weights that are left."""

    usual, usual_like = tuple(step / 10 for step in range(1, 10)), 0.5

    @property
    def values(self) -> list[float]:
        """Shares."""
        return self.numbers

    @property
    def like(self) -> float:
        """The equal share."""
        return self.equal_value

    @staticmethod
    def uniform(settings: AllocationSettings, number: float) -> Prune:
        """Pruned by this share."""
        if settings.method not in (None, *PRUNING):
            raise SettingError(f"allocate: zeros are chosen by {', '.join(PRUNING)}, got {settings.method}")
        return Prune(sparsity=number, method=settings.method or "wanda", calibration=settings.calibration)

    @staticmethod
    def part_of(name: str) -> str:
        """The matrix itself."""
        return name

    def alone(self, part: str) -> Iterator[tuple[float, dict[str, Tensor]]]:
        """See `Kind.alone`."""
        pruning = self.uniform(self.settings, self.like)
        moments = {} if pruning.method == "magnitude" else self.moments(part)
        weight = self.model.get_parameter(part).detach()
        for value in self.values:
            yield value, {part: pruning.without(weight, moments.get(part, {}), value)}

    def amount(self, part: str, value: float, weights: Mapping[str, Tensor]) -> float:
        """See `Kind.amount`: weights that are not zero."""
        return float(weights[part].count_nonzero())

    def made(self, chosen: Mapping[str, float]) -> Changed:
        """See `Kind.made`: pruned one after the other."""
        return self.uniform(self.settings, self.like).pruned(deepcopy(self.model), self.work, chosen)

    def shown(self, value: float) -> str:
        """A share."""
        return f"{value:g}"


KINDS: dict[str, type[Kind]] = {"bits": BitsOf, "sparsity": SparsityOf}
