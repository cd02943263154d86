"""What the matrices of a network multiply: the second moments of their inputs on calibration text.

    moments = second_moments(model, windows)        # windows [W, T] of tokens
    moments["layers.0.channel_mixer.mixer.up"]      # [Part(offset, rows, width), its sum of x x'], ...

    reading = LayerByLayer(model, windows)          # the same for one layer after the other
    moments = reading.moments(0, names)

Rounding (GPTQ, AWQ) and pruning (Wanda) weigh an error in a weight by the inputs that it meets. A matrix is
found by its memory, so blocks need no code for it: a product with a parameter, or with a view of whole rows
of it, is one of that parameter, as experts and heads are, each with inputs of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from search_spaces.network.decoder import Decoder
from search_spaces.network.layer import PassContext, SideOutputs
from search_spaces.network.model import Model
from search_spaces.ops.linear import linear_per_head

AT_ONCE = 8
"""Windows in one forward pass."""


class Part(NamedTuple):
    """Whole rows of a parameter that are multiplied together: `rows` x `width` values from `offset` on."""

    offset: int
    rows: int
    width: int

    def of(self, parameter: Tensor) -> Tensor:
        """The matrix [rows, width] as a view of a contiguous parameter."""
        return parameter.view(-1)[self.offset : self.offset + self.rows * self.width].view(self.rows, -1)


Moments: TypeAlias = dict[str, dict[Part, Tensor]]
"""Sums of x x' [width, width] in float64, by parameter and by part."""


@torch.no_grad()
def second_moments(
    model: Model, windows: Tensor, wanted: Callable[[str], bool] = lambda name: True
) -> Moments:
    """The second moments of all inputs of the `wanted` parameters, over calibration windows [W, T].

    A parameter that is in no product that can be seen is absent.
    """
    names = {name: weight for name, weight in model.named_parameters() if wanted(name)}

    def read() -> None:
        for tokens in windows.split(AT_ONCE):
            model(tokens.to(model.embedding.device))

    return moments_while(read, names)


class LayerByLayer:
    """The second moments of layers in their order, each with those before it as they then are.

    What a layer reads is kept, so that a network whose layers are changed one after the other is read twice
    in all, and not once for every layer; where layers share weights or tokens leave the network early, it is.
    """

    def __init__(self, model: Model, windows: Tensor) -> None:
        self.model, self.windows = model, windows
        self._next, self._inputs = 0, list[_Input]()

    @torch.no_grad()
    def moments(self, index: int, wanted: Collection[str]) -> Moments:
        """Those of the inputs of parameters of a layer, no earlier one than was asked for before."""
        if not layers_keep_their_order(self.model.spec) or index < self._next:
            return second_moments(self.model, self.windows, set(wanted).__contains__)
        if not self._inputs:
            device = self.model.embedding.device
            embedded = [self.model.embed(tokens.to(device)) for tokens in self.windows.split(AT_ONCE)]
            self._inputs = [_Input(x, x) for x in embedded]
        while self._next < index:
            self._inputs = [read._replace(x=y) for read, y in zip(self._inputs, self._read(), strict=True)]
            self._next += 1
        names = {name: self.model.get_parameter(name) for name in wanted}
        return moments_while(self._read, names)

    def _read(self) -> list[Tensor]:
        """What the next layer puts out for all windows."""
        layer = self.model.decoder_layers[self._next]
        context = PassContext(f"layers.{self._next}", SideOutputs())
        return [layer(x, None, replace(context, embedding=embedding))[0] for x, embedding in self._inputs]


def layers_keep_their_order(spec: Decoder) -> bool:
    """Whether each layer is read once by every token."""
    return not any(layer.shared or layer.exit for layer in spec.layers)


def times_read(spec: Decoder) -> int:
    """How often the windows are read while every layer of a network is changed."""
    return 2 if layers_keep_their_order(spec) else len(spec.layers)


class _Input(NamedTuple):
    """What a layer reads [W, T, D], and the embedding of the same tokens."""

    x: Tensor
    embedding: Tensor


def moments_while(run: Callable[[], object], parameters: Mapping[str, Tensor]) -> Moments:
    """The second moments of all inputs that these parameters, each in a memory of its own, have in a run."""
    observed = _Products(parameters)
    with observed:
        run()
    return observed.moments


def tiled(parameter: Tensor, parts: Mapping[Part, Tensor]) -> bool:
    """Whether the parts are all of a parameter, each value once."""
    end = 0
    for part in sorted(parts):
        if part.offset != end:
            return False
        end += part.rows * part.width
    return end == parameter.numel()


class _Products(TorchFunctionMode):
    """While it is entered, the inputs of matrix products with some parameters are added up."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.moments: Moments = {}
        self._names = {
            weight.untyped_storage().data_ptr(): (name, weight.shape[-1])
            for name, weight in parameters.items()
        }

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Look at the inputs of a product, and compute it as it is."""
        if func in (F.linear, linear_per_head):
            for x, weight in _products(func, args[0], args[1]):
                self._add(x, weight)
        return func(*args, **(kwargs or {}))

    def _add(self, x: Tensor, weight: Tensor) -> None:
        name, last = self._names.get(weight.untyped_storage().data_ptr(), ("", 0))
        if not name or not weight.is_contiguous() or weight.shape[-1] % last:
            return
        part = Part(int(weight.storage_offset()), *weight.shape)
        rows = x.reshape(-1, part.width).double()
        moments = self.moments.setdefault(name, {})
        moments[part] = moments[part] + rows.mT @ rows if part in moments else rows.mT @ rows


def _products(func: Any, x: Tensor, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """The inputs [..., K] and the matrix [N, K] of every product of a call."""
    if func is F.linear:
        yield x, weight
    else:
        yield from zip(x.unbind(), weight.unbind(), strict=True)
