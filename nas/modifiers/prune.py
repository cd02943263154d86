"""Single weights are set to zero, after training: by magnitude, Wanda or SparseGPT, anywhere or 2 of 4."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evaluators.compression.calibration import LayerByLayer, Moments, Part, tiled, times_read
from evaluators.compression.pruning import kept_by_magnitude, kept_by_wanda
from evaluators.compression.sparse_gpt import sparse_gpt
from foundation.errors import SettingError
from foundation.settings import MANY, setting
from nas.modifiers.base import Changed, Modifier, Work, forward_flops, layer_matrices, modifiers
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario

METHODS = ("magnitude", "wanda", "sparsegpt")
MOST_NEIGHBOURS = 99
"""The largest M of a pattern N:M."""

_PATTERN = re.compile(r"([1-9][0-9]*):([1-9][0-9]*)")


@modifiers.add
@dataclass(frozen=True, kw_only=True)
class Prune(Modifier):
    """Set the least important weights of every matrix of the layers to zero.

    `magnitude` looks at no text; `wanda` weighs weights by the inputs that they meet on calibration windows,
    layer after layer; `sparsegpt` also changes the weights that stay, so that they make the error good.
    Shapes, stored bytes and time stay as they are: a folder holds zeros like other values, and a dense
    product multiplies them. For fewer bytes everywhere take `shrink` or `quantize`.
    """

    name = "prune"

    sparsity: float = setting(0.5, help="Share of the weights of a matrix that go.", above=0, below=1)
    pattern: str = setting(
        "none",
        help="N:M, such as 2:4: of every M weights in a row N stay, and `sparsity` has no effect.",
        metavar="none|N:M",
    )
    method: str = setting("wanda", help="What makes a weight important.", choices=METHODS)
    calibration: int = setting(64, help="Windows of training text to calibrate on.", least=1, most=MANY)

    def check(self) -> None:
        """The pattern must leave some weights, and not all."""
        if self.pattern != "none":
            _neighbours(self.pattern)

    def unsupported(self, spec: Decoder) -> str:
        """Ternary weights have zeros already."""
        if any(layer.bits_at(place).weight < 2 for layer in spec.layers for place in layer.blocks):
            return "weights of 1.58 bits are not pruned: what is zero among them was learned"
        return ""

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """See `Modifier.flops`: reading the windows."""
        reads = 0 if self.method == "magnitude" else times_read(spec)
        return reads * forward_flops(spec, self.calibration, scenario)

    def modify(self, model: Model, work: Work) -> Changed:
        """See `Modifier.modify`."""
        return self.pruned(model, work, dict.fromkeys(layer_matrices(model), self.sparsity))

    @torch.no_grad()
    def pruned(self, model: Model, work: Work, shares: Mapping[str, float]) -> Changed:
        """The network without these shares of its matrices, by name, layer after layer."""
        looks = self.method != "magnitude"
        reading = LayerByLayer(model, work.calibration(self.calibration)) if looks else None
        by_magnitude, parameters = [], dict(model.named_parameters())
        layers = list(dict.fromkeys(map(_layer, shares)))
        with work.progress.bar("pruning", len(layers)) as bar:
            for done, layer in enumerate(layers, 1):
                names = [name for name in shares if _layer(name) == layer]
                moments: Moments = {}
                if reading is not None:
                    moments = reading.moments(int(layer), names)
                for name in names:
                    weight, parts = parameters[name], moments.get(name, {})
                    weight.copy_(self.without(weight, parts, shares[name]))
                    if looks and not tiled(weight, parts):
                        by_magnitude.append(name)
                bar.update(done)
        zeros = sum(int((parameters[name] == 0).sum()) for name in shares)
        total = sum(parameters[name].numel() for name in shares)
        notes: dict[str, Any] = {"sparsity": zeros / total}
        if by_magnitude:
            notes["by magnitude"] = by_magnitude
        return Changed(model, notes)

    def without(self, weight: Tensor, parts: dict[Part, Tensor], share: float) -> Tensor:
        """A matrix without a share of its weights, given the moments of what it multiplies."""
        if self.method == "sparsegpt" and tiled(weight, parts):
            return sparse_gpt(weight, parts, share, self._neighbours)
        if self.method != "magnitude" and tiled(weight, parts):
            return weight * kept_by_wanda(weight, parts, share, self._neighbours)
        return weight * kept_by_magnitude(weight, share, self._neighbours)

    @property
    def _neighbours(self) -> tuple[int, int] | None:
        return None if self.pattern == "none" else _neighbours(self.pattern)


def _neighbours(pattern: str) -> tuple[int, int]:
    """N and M of a pattern N:M."""
    match = _PATTERN.fullmatch(pattern) if len(pattern) < 20 else None
    if match is None or not int(match[1]) < int(match[2]) <= MOST_NEIGHBOURS:
        raise SettingError(
            f"prune: pattern must be none, or N:M with N below M and M at most {MOST_NEIGHBOURS}, such as"
            f" 2:4, got {pattern!r:.80}"
        )
    return int(match[1]), int(match[2])


def _layer(name: str) -> str:
    return name.split(".")[1]
