"""What each layer of a network takes, of the latency that a table predicts for the whole.

Parts are added up as in a prediction of the whole; what the table adds to that sum for a whole network (a
constant, and overhead for every layer) is told apart, since it belongs to no layer.
"""

from __future__ import annotations

from dataclasses import dataclass

from hw_profiles.latency.correction import Correction
from hw_profiles.latency.parts import around, shares
from hw_profiles.latency.table import LatencyTable
from search_spaces.network.decoder import Decoder


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one reading: of each layer, of what stands around them, and of neither."""

    layers: tuple[float, ...]
    around: float
    overhead: float

    @property
    def whole(self) -> float:
        """The prediction for the network."""
        return sum(self.layers) + self.around + self.overhead


def layer_times(table: LatencyTable, spec: Decoder) -> dict[str, LayerTimes]:
    """By reading, the milliseconds of the layers of a network.

    Raises:
        ProfileError: a part is of a kind, or beyond the sizes, that were measured.
    """
    of_layers = [shares(layer, spec, table.real_bits) for layer in spec.layers]
    outer = around(spec, table.real_bits)
    parts = list(dict.fromkeys([outer, *(part for layer in of_layers for part, _ in layer)]))
    found = {}
    for reading, known in table.corrected_parts(parts).items():
        ms = dict(zip(parts, (value for value, _ in known), strict=True))
        correction = table.corrections.get(reading, Correction())
        sums = [sum(share * ms[part] for part, share in layer) for layer in of_layers]
        layers = tuple(correction.scale * own for own in sums)
        alone = ms[outer] + sum(sums)
        overhead = correction.whole_ms(alone, len(layers)) - correction.scale * alone
        found[reading] = LayerTimes(layers, correction.scale * ms[outer], overhead)
    return found
