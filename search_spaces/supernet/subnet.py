"""One architecture read from shared weights by slices; see `search_spaces.supernet`."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foundation.errors import IllegalArchitecture
from search_spaces.network.decoder import Decoder, weights_site
from search_spaces.network.layer import made_anew
from search_spaces.network.model import Model
from search_spaces.network.residual import Residual
from search_spaces.network.weight_formats import weight_format
from search_spaces.quantization.packing import pack, unpack
from search_spaces.quantization.rounding import round_all
from search_spaces.supernet.weights import Binding, SharedWeights, Weights, leading

Slot: TypeAlias = tuple[dict[str, Any], str]
"""Where a module keeps a parameter, and under which name."""

Bound: TypeAlias = tuple[list[Binding], list[Slot]]
"""The bindings of a module's parameters, and their slots."""


class BoundSublayers:
    """Sublayers without values that subnets share, each with its bindings.

    To make a module and to look up its parameters takes longer than to run it on a GPU. A module may stand in
    any layer; a network that has a sublayer several times borrows as many modules. At most `most` are kept,
    those that were used last.
    """

    def __init__(self, most: int = 4096) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, Residual] = OrderedDict()
        self._bound: dict[Residual, Bound] = {}

    def lent_to(self, spec: Decoder) -> Callable[[int, str], Residual]:
        """Gives one network the sublayer of a layer's number and place, on the meta device, each once."""
        lent: Counter[Hashable] = Counter()

        def lend(number: int, place: str) -> Residual:
            layer = spec.layers[number]
            norm = layer.norm_in(spec.norm)
            form = (place, layer.blocks[place], layer.bits_at(place), spec.d_model, norm)
            lent[form] += 1
            return self._sublayer((form, lent[form]), partial(made_anew, spec, layer, place))

        return lend

    def bound(self, sublayer: Residual, bind: Callable[[], Bound]) -> Bound:
        """Its bindings and slots, found by `bind` the first time."""
        if sublayer not in self._bound:
            self._bound[sublayer] = bind()
        return self._bound[sublayer]

    def _sublayer(self, key: Hashable, make: Callable[[], Residual]) -> Residual:
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > self.most:
                self._bound.pop(self._kept.popitem(last=False)[1], None)
        self._kept.move_to_end(key)
        return self._kept[key]


class Subnet:
    """One architecture read from a supernet. Stateless: it holds a module without values, and bindings."""

    def __init__(self, supernet: SharedWeights, spec: Decoder, sublayers: BoundSublayers) -> None:
        self.supernet, self.spec = supernet, spec
        spec.check()
        with torch.device("meta"):
            self.module = Model(spec, sublayers.lent_to(spec))
        bindings, slots = list[Binding](), list[Slot]()
        for (own, places), path, key in self._bound(sublayers):
            bindings += [self._placed(binding, path, key) for binding in own]
            slots += places
        self.bindings, self._slots = tuple(bindings), tuple(slots)

    def weights(self) -> Weights:
        """Views of the shared parameters, rounded to the layers' bits: what `__call__` computes with.

        Gradients flow through them into the shared parameters.
        """
        return {b.name: self.supernet.slice_at(b.key, b.shape, b.bits) for b in self.bindings}

    def leaves(self, sixteen: Weights | None = None, *, whole: bool = False) -> Weights:
        """The views detached, as leaves of their own, for `Supernet.accumulate`.

        Given `Supernet.at_sixteen()`, what is stored at 16 bits is read from there, and already rounded: its
        gradient is that of the weight, as it passes straight through. `whole` leaves lie in one piece, as
        rounded ones do, so that what is compiled for one serves the other.
        """
        shared, leaves = self.supernet.weights, {}
        for b in self.bindings:
            source = shared[b.key].detach() if sixteen is None or not b.plain else sixteen[b.key]
            view = source[b.index]
            leaves[b.name] = (view.contiguous() if whole else view).requires_grad_()
        return leaves

    def rounded(self, leaves: Weights, sixteen: Weights | None = None) -> Weights:
        """Leaves, made with the same `sixteen`, at the layers' bits, gradients passing straight through."""
        return round_all(leaves, {b.name: None if sixteen and b.plain else b.bits for b in self.bindings})

    def __call__(
        self, tokens: Tensor, weights: Weights | None = None, *, recompute: bool = False, **settings: Any
    ) -> Tensor:
        """Logits [B, T, V]; `weights` are those of `weights()` or `rounded(leaves)`; see `Model.forward`.

        With `recompute`, what is inside a layer is computed again in the backward pass instead of being kept
        (Chen et al. 2016, arXiv:1604.06174).
        """
        weights = self.weights() if weights is None else weights
        with self._filled(weights), self._recomputing(weights) if recompute else nullcontext():
            logits: Tensor = self.module(tokens, **settings)
        return logits

    @contextmanager
    def _filled(self, weights: Weights) -> Iterator[None]:
        """The module with these values, for a while."""
        # what functional_call does, without looking up every name anew: that was 2 % of a small forward pass
        before = [holder[name] for holder, name in self._slots]
        try:
            for binding, (holder, name) in zip(self.bindings, self._slots, strict=True):
                holder[name] = weights[binding.name]
            yield
        finally:
            for values, (holder, name) in zip(before, self._slots, strict=True):
                holder[name] = values

    @contextmanager
    def _recomputing(self, weights: Weights) -> Iterator[None]:
        """Layers that keep only what goes in; they borrow the weights once more when they are run again."""
        layers = list(self.module.decoder_layers)

        def again(forward: Callable[..., Any], *inputs: Any) -> Any:
            with self._filled(weights):
                return forward(*inputs)

        try:
            for layer in layers:
                run = partial(again, layer.forward)
                layer.__dict__["forward"] = partial(checkpoint, run, use_reentrant=False)
            yield
        finally:
            for layer in layers:
                layer.__dict__.pop("forward", None)

    def extract(self) -> Model:
        """A plain model with these values, quantized for real where asked; it shares no memory."""
        with torch.device("meta"):
            model = Model(self.spec)
        model.to_empty(device=self.supernet.device)
        values = dict(model.named_parameters())
        with torch.no_grad():
            for binding in self.bindings:
                values[binding.name].copy_(self._stored(binding))
        return model

    def _stored(self, binding: Binding) -> Tensor:
        """A slice as a file would hold it, read back."""
        view, bits = self.supernet.weights[binding.key][binding.index], binding.bits
        if bits is None:
            return view
        stored = self.supernet.prepared.get((binding.key, binding.shape, bits)) or pack(view, bits)
        return unpack(stored, bits, view.shape[-1], view.dtype)

    def _bound(self, sublayers: BoundSublayers) -> Iterator[tuple[Bound, str, str]]:
        """Those of the shell, and of every layer's sublayers and options, with their paths here and there."""
        yield self._bind(self.module, "", recurse=False), "", ""
        done = set[int]()
        for number, layer in enumerate(self.module.decoder_layers):
            if id(layer) in done:  # it shares its weights with one before
                continue
            done.add(id(layer))
            site = weights_site(self.spec.layers[number].shared, number)
            for place, module in layer.named_children():
                path, key = f"layers.{number}.{place}.", f"{site}.{place}"
                if isinstance(module, Residual):
                    bound = sublayers.bound(module, partial(self._bind, module, path))
                    yield bound, path, f"{key}:{type(module.block).__name__}."
                else:
                    yield self._bind(module, path), path, f"{key}."

    def _bind(self, module: nn.Module, path: str, *, recurse: bool = True) -> Bound:
        """The parameters of a module of the network, by their names in the module, wherever it stands."""
        bindings, slots, owners = list[Binding](), list[Slot](), dict(module.named_modules())
        for own, parameter in module.named_parameters(recurse=recurse):
            bits = weight_format(self.module, f"{path}{own}", parameter)
            bindings.append(Binding(own, own, leading(parameter.shape), bits))
            owner, _, last = own.rpartition(".")
            slots.append((owners[owner]._parameters, last))
        return bindings, slots

    def _placed(self, own: Binding, path: str, key: str) -> Binding:
        """The binding of a module's parameter where the module stands."""
        name, where = f"{path}{own.name}", f"{key}{own.key}"
        shared, shape = self.supernet.weights.get(where), own.shape
        if shared is None or any(map(int.__lt__, shared.shape, shape)):
            has = "none" if shared is None else f"only {tuple(shared.shape)}"
            raise IllegalArchitecture(
                f"{name} needs {shape}, but the supernet of {self.supernet.name} has {has} at {where}"
            )
        return Binding(name, where, own.index, own.bits)
