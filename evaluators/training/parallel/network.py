"""The network of one process: its layers, its part of every parameter, and how they compute.

As in `NetworkTraining`, every matrix is rounded to its layer's bits on its way into a product. That happens
layer by layer, inside the layer's own forward pass: whoever gathers a layer's weights around that pass (FSDP)
needs no more than one layer at a time, and what is recomputed in the backward pass is rounded again.

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from evaluators.training.precision import autocast
from search_spaces.network.decode_state import LayerState
from search_spaces.network.decoder import Decoder
from search_spaces.network.layer import AS_THEY_ARE, DecoderLayer, Parts, PassContext, SideOutputs
from search_spaces.network.model import NO_RATES, Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.rounding import round_all

Formats = Mapping[str, WeightFormat | None]

Prepare = Callable[[Tensor, WeightFormat | None], Tensor]
"""What comes of a stored part of a parameter where it is used."""

PREPARED = "prepared"
"""The attribute of a layer with what comes of each part of its parameters, by name."""


@dataclass
class Cut:
    """How a parameter is cut along one axis: this process has the part `index` of `count`.

    A parameter of a split block that is `whole` has partial gradients, which are summed.
    """

    dim: int | None
    count: int
    index: int


@dataclass
class Plan:
    """What became of the parameters of a network, by name, while it was divided."""

    shapes: dict[str, tuple[int, ...]]
    formats: Formats
    cuts: dict[str, Cut] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)
    """Stages of a pipeline that hold a parameter, where more than one does."""


class Shared(Model):
    """A model of which a process may hold some layers only; it computes with those.

    `numbers` are the places of its layers in the whole network. `rates_by_kind` are rates of kinds of blocks
    in the place of their own. Auxiliary losses of layers come into `losses`, and not through the context of
    the pass: FSDP rebuilds what is in the arguments of a layer, lists that hold tensors too. So do the
    `parts` that compute sublayers and head.
    """

    def __init__(self, spec: Decoder, rates_by_kind: Mapping[str, float] = NO_RATES) -> None:
        super().__init__(spec)
        self.first = self.last = True
        self.numbers: list[int] = list(range(len(spec.layers)))
        self.losses: list[Tensor] = []
        self.parts: Parts = AS_THEY_ARE
        shapes = {name: tuple(weight.shape) for name, weight in self.named_parameters()}
        self.plan = Plan(shapes, weight_bits(self))
        self.rates, self.whole_roles = self.learning_rates(rates_by_kind), self.roles()

    def keep(self, numbers: Collection[int], *, first: bool, last: bool) -> None:
        """Keep these layers, with the embedding where they are first, and the head where they are last."""
        self.first, self.last, self.numbers = first, last, sorted(numbers)
        layers = dict(enumerate(self.decoder_layers))
        self.layers: Any = nn.ModuleDict({str(number): layers[number] for number in self.numbers})
        needed = {*(self.shell.reads if first else ()), *(self.shell.predicts if last else ())}
        for name in self.shell.shapes:
            if name not in needed:
                delattr(self, name)

    def placed_layers(self) -> Iterator[tuple[int, DecoderLayer]]:
        """The layers here, with their places in the whole network."""
        whole = isinstance(self.layers, nn.ModuleList)
        for number in self.numbers:
            yield number, self.layers[number] if whole else self.layers[str(number)]

    def forward(self, x: Tensor, auxiliary: Tensor | None = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Logits [B, T, V] of tokens [B, T], and the sum of auxiliary losses [1].

        The first layers of a pipeline give the residual stream [B, T, D] instead, and the last ones take it,
        with the sum so far.
        """
        self.losses.clear()
        of_exits: list[Tensor] = []
        y = super().forward(x, of_exits, parts=self.parts) if self.first and self.last else self._read_some(x)
        total = 0 * exact(y[:1, :1, 0].flatten()) if auxiliary is None else auxiliary
        return y, sum((*self.losses, *of_exits), start=total)

    def _read_some(self, x: Tensor) -> Tensor:
        y = self.embed(x) if self.first else x
        for number, layer in self.placed_layers():
            y, _ = layer(y, None, PassContext(f"layers.{number}", SideOutputs()))
        return self.parts.head(self, y) if self.last else y


def exact(x: Tensor) -> Tensor:
    """x in float32, or more exact where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Holder(nn.Module):
    """A network whose every use of a weight is rounded, in the precision of the recipe.

    `recomputed` are the numbers of layers whose activations are not kept but computed again. `parts` compute
    sublayers and the head.
    """

    def __init__(
        self,
        network: Shared,
        *,
        precision: str,
        recomputed: Collection[int] = (),
        parts: Parts = AS_THEY_ARE,
    ) -> None:
        super().__init__()
        self.network, self.precision = network, precision
        network.parts = parts
        for number, layer in network.placed_layers():
            prefix = f"layers.{number}."
            if layer.exit is not None:
                _borrow(layer.exit, _of(network.plan.formats, f"{prefix}exit."))
            if "forward" not in vars(layer):  # layers that share their weights are one module
                formats = _of(network.plan.formats, prefix)
                _borrow_layer(layer, formats, network, recompute=number in recomputed)

    def forward(self, x: Tensor, auxiliary: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As the network."""
        own = dict(self.network.named_parameters(recurse=False))
        weights = round_all(own, {name: self.network.plan.formats[name] for name in own})
        given = (x,) if auxiliary is None else (x, auxiliary)
        with autocast(self.precision, x.device):
            result: tuple[Tensor, Tensor] = functional_call(self.network, weights, given)
        return result


def _of(formats: Formats, prefix: str) -> dict[str, WeightFormat | None]:
    return {name.removeprefix(prefix): stored for name, stored in formats.items() if name.startswith(prefix)}


def _template(module: nn.Module) -> nn.Module:
    """A module that computes like this one, with parameters that it is given."""
    return copy.deepcopy(module).to("meta")


def weights_of(module: nn.Module, formats: Formats) -> dict[str, Tensor]:
    """The rounded weights of a module; those that are cut ask for what they need (`Method.divide`)."""
    prepared: Mapping[str, Prepare] = getattr(module, PREPARED, {})
    own = {name: weight for name, weight in module.named_parameters() if not name.startswith("exit.")}
    plain = {name: weight for name, weight in own.items() if name not in prepared}
    weights = round_all(plain, {name: formats.get(name) for name in plain})
    cut = {
        name: prepared[name](weight, formats.get(name)) for name, weight in own.items() if name in prepared
    }
    return weights | cut


def _borrow(module: nn.Module, formats: Formats) -> None:
    """Let a module compute with its rounded weights."""
    template = _template(module)

    def forward(*given: Any) -> Any:
        return functional_call(template, weights_of(module, formats), given)

    module.forward = forward


def _borrow_layer(layer: DecoderLayer, formats: Formats, network: Shared, *, recompute: bool) -> None:
    """The same for a layer, whose auxiliary losses are kept once, though it may be computed twice."""
    template, kept, parts = _template(layer), network.losses, network.parts

    def run(x: Tensor, context: PassContext) -> tuple[Tensor, list[Tensor]]:
        losses: list[Tensor] = []
        inner = replace(context, side=SideOutputs(losses, None), parts=parts)
        y, _ = functional_call(template, weights_of(layer, formats), (x, None, inner))
        return y, losses

    def forward(x: Tensor, stored: LayerState | None, context: PassContext) -> tuple[Tensor, LayerState]:
        if recompute:
            y, losses = checkpoint(run, x, context, use_reentrant=False, preserve_rng_state=False)
        else:
            y, losses = run(x, context)
        kept.extend(losses)
        return y, {}

    layer.forward = forward  # type: ignore[method-assign]
