"""Half a layer by itself: what may stand at a place of a network, read from shared weights.

    x + mixer(norm(x))

A `Half` names one way to be half a layer; a `BorrowedHalf` computes it with the slices of a supernet's
parameters that a subnet would use. Alignment trains them one by one, replacement scores them one by one.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.base import Block, Mixed
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import open_layers, options_if
from search_spaces.network.decoder import PLACES, Decoder, Layer, weights_site
from search_spaces.network.residual import Residual
from search_spaces.quantization.bits import Bits, WeightFormat, is_matrix
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.supernet import Supernet, closings


@dataclass(frozen=True)
class Half:
    """A block at a width and at bits, at the `site` of its weights; without a block, x goes through.

    Sites are `layers.0.sequence_mixer` and the like; `layers.0` without a block is a layer left out, and the
    empty site stands for the network around the layers.
    """

    site: str
    block: Block | None
    d_model: int
    bits: Bits = Bits()

    @property
    def key(self) -> str:
        """Where a supernet keeps the weights of this kind of block at this site."""
        return f"{self.site}:{type(self.block).__name__}"

    @property
    def legal(self) -> bool:
        """Whether the block can be built at this width."""
        try:
            if self.block is not None:
                self.block.check(self.d_model)
        except IllegalArchitecture:
            return False
        return True


class BorrowedHalf:
    """A half read from a supernet's weights by slices; it holds none itself.

    Raises:
        IllegalArchitecture: the supernet holds no weights for it, or not large enough ones.
    """

    def __init__(self, supernet: Supernet, half: Half) -> None:
        if half.block is None:
            raise IllegalArchitecture(f"{half.site}: nothing stands there, so nothing can be read")
        self.supernet, self.half = supernet, half
        with torch.device("meta"):
            self.module = _Reader(Residual(half.block, half.d_model, half.bits))
        self.bindings: dict[str, tuple[str, tuple[slice, ...], WeightFormat | None]] = {}
        for name, parameter in self.module.named_parameters():
            key, shape = f"{half.key}.{name.removeprefix('inner.')}", tuple(parameter.shape)
            shared = supernet.weights.get(key)
            if shared is None or any(map(int.__lt__, shared.shape, shape)):
                has = "none" if shared is None else f"only {tuple(shared.shape)}"
                raise IllegalArchitecture(f"{key} needs {shape}, but the supernet has {has}")
            bits = half.bits.stored if is_matrix(shape) else None
            self.bindings[name] = key, tuple(map(slice, shape)), bits

    def weights(self) -> dict[str, Tensor]:
        """The slices at the bits of the half; gradients pass straight through into the shared weights."""
        found = {}
        for name, (key, index, bits) in self.bindings.items():
            view = self.supernet.weights[key][index]
            found[name] = view if bits is None else round_to_bits(view, bits)
        return found

    def __call__(
        self, x: Tensor, weights: Mapping[str, Tensor] | None = None, *, segment: int | None = None
    ) -> Mixed:
        """`x + mixer(norm(x))` of x [B, T, D]; in pieces that hand over their state with a `segment`."""
        weights = self.weights() if weights is None else weights
        mixed: Mixed = functional_call(self.module, dict(weights), (x, segment), tie_weights=False)
        return mixed


class _Reader(nn.Module):
    """A half that can be read in pieces, as `Model.forward` reads a network."""

    def __init__(self, half: Residual) -> None:
        super().__init__()
        self.inner = half

    def forward(self, x: Tensor, segment: int | None) -> Mixed:
        """x [B, T, D]."""
        if segment is None:
            mixed: Mixed = self.inner(x)
            return mixed
        state, position, pieces = self.inner.init_state(x.shape[0], x.shape[1]), 0, []
        for piece in x.split(segment, dim=1):
            mixed = self.inner(piece, state, position)
            state, position = mixed.state or {}, position + piece.shape[1]
            pieces.append(mixed.y)
        return Mixed(torch.cat(pieces, dim=1))


def halves_of(spec: Decoder) -> Iterator[tuple[int, str, Half]]:
    """The halves of a network in their order, each with the index of its layer and its place."""
    for index, layer in enumerate(spec.layers):
        for place in PLACES:
            site = f"{weights_site(layer.shared, index)}.{place}"
            yield index, place, Half(site, getattr(layer, place), spec.d_model, layer.bits)


def halves_in(space: Space) -> Iterator[Half]:
    """Every half that a network of the space may have and that can be built, each once.

    Raises:
        SpaceError: the root is no decoder.
    """
    found: dict[Half, None] = {}
    for decoder, path, _ in options_if(space.root, ""):
        if not isinstance(decoder, Decoder):
            raise SpaceError(f"halves of layers need a space of Decoder, got {type(decoder).__name__}")
        widths = tuple(closings(decoder.d_model))
        for layer in open_layers(decoder, path):
            found |= dict.fromkeys(_halves_at(layer.index, layer.layer, widths))
    yield from found


def _halves_at(index: int, layer: Layer, widths: tuple[int, ...]) -> Iterator[Half]:
    """Every half that may stand at an index, from a layer that is open inside."""
    for shared in closings(layer.shared):
        for place in PLACES:
            for block in closings(getattr(layer, place)):
                for d_model in widths:
                    for bits in closings(layer.bits):
                        half = Half(f"{weights_site(shared, index)}.{place}", block, d_model, bits)
                        if half.legal:
                            yield half
