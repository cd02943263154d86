"""Whole units are taken out, after training: heads, channels, experts, states, layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

from evaluators.compression.structure import METHODS, UNITS, least_needed, pruned, with_layers, without_units
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.modifiers.base import Changed, Estimate, Modifier, Work, forward_flops, modifiers
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

PER_LAYER = "Share of the {} of a block that go: one number, or one for each layer."


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Shrink(Modifier):
    """Take the least important heads, channels, experts, states or whole layers out.

    What comes out is a smaller architecture with slices of the weights: fewer bytes and less time on any
    device, where `prune` only makes zeros. It costs more of the score, so let `distill` follow. A share is
    one for all layers, or one for each with commas; `layers` go first, one after the other, each time that
    without which the calibration windows are predicted best. What has an order of its own stays: heads on a
    ladder of decays, channels turned by rotary positions.
    """

    name = "shrink"

    heads: tuple[float, ...] = setting((0.0,), help=PER_LAYER.format("heads"), least=0, below=1)
    channels: tuple[float, ...] = setting(
        (0.25,), help=PER_LAYER.format("hidden or inner channels"), least=0, below=1
    )
    experts: tuple[float, ...] = setting((0.0,), help=PER_LAYER.format("experts"), least=0, below=1)
    states: tuple[float, ...] = setting((0.0,), help=PER_LAYER.format("state's rows"), least=0, below=1)
    layers: int = setting(0, help="Layers that go.", least=0, most=MANY)
    method: str = setting(
        "effect", help="What makes a unit important: its effect on the loss, or its weights.", choices=METHODS
    )
    calibration: int = setting(64, help="Windows of training text to calibrate on.", least=1, most=MANY)

    def check(self) -> None:
        """Something must go."""
        if not self.layers and not any(any(getattr(self, unit)) for unit in UNITS):
            raise SettingError("shrink: all shares and layers are 0: nothing would go")
        if empty := next((unit for unit in UNITS if not getattr(self, unit)), None):
            raise SettingError(f"shrink: {empty} is a share, or one for each layer, got none")

    def unsupported(self, spec: Decoder) -> str:
        """There must be such units, and shares for all layers."""
        depth = len(spec.layers)
        if self.layers >= depth:
            return f"layers is {self.layers}, and the network has {depth}: one at least stays"
        for unit in UNITS:
            shares = getattr(self, unit)
            if len(shares) not in (1, depth):
                return f"{unit} are one share, or one for each of the {depth} layers, got {len(shares)}"
            if any(shares) and without_units(spec, unit, self._shares(unit, range(depth))) == spec:
                return f"the network has no {unit} that can go, or too few for this share"
        return ""

    def changed(self, spec: Decoder) -> Decoder:
        """See `Modifier.changed`; one of several where layers differ, since the text says which go."""
        return self._of(spec, range(len(spec.layers) - self.layers))

    def estimate(self, spec: Decoder, scenario: Scenario) -> Estimate:
        """See `Modifier.estimate`: exact, unless the layers that may go differ."""
        found = super().estimate(spec, scenario)
        return replace(found, exact=self._every_choice_is_alike(spec))

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: a pass without each layer, for each that goes, and three for each unit."""
        once, depth = forward_flops(spec, self.calibration, scenario), len(spec.layers)
        passes = sum(depth - gone for gone in range(self.layers)) * (depth - 1) / depth
        cut = [unit for unit in UNITS if any(getattr(self, unit))]
        return (passes + (3 * len(cut) if self.method == "effect" else 0)) * once

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        batch, depth = work.examples(self.calibration), len(model.spec.layers)
        kept = least_needed(model, self.layers, batch) if self.layers else list(range(depth))
        gone = [index for index in range(depth) if index not in kept]
        smaller = with_layers(model, kept) if gone else model
        cut = [unit for unit in UNITS if any(getattr(self, unit))]
        with work.progress.bar("shrinking", len(cut)) as bar:
            for done, unit in enumerate(cut, 1):
                smaller = pruned(smaller, unit, self._shares(unit, kept), batch, self.method)
                bar.update(done)
        return Changed(smaller, {"layers that went": gone} if gone else {})

    def _shares(self, unit: str, kept: range | list[int]) -> list[float]:
        shares = getattr(self, unit)
        return [shares[index if len(shares) > 1 else 0] for index in kept]

    def _of(self, spec: Decoder, kept: range | list[int]) -> Decoder:
        """The architecture of these layers, each without its share."""
        smaller = replace(spec, layers=tuple(spec.layers[index] for index in kept))
        for unit in UNITS:
            smaller = without_units(smaller, unit, self._shares(unit, kept))
        return smaller

    def _every_choice_is_alike(self, spec: Decoder) -> bool:
        if not self.layers:
            return True
        alike = len(set(spec.layers)) == 1 and all(len(set(getattr(self, unit))) == 1 for unit in UNITS)
        return alike and all(layer.shared is None for layer in spec.layers)
