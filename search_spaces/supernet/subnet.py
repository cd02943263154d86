"""One architecture read from shared weights by slices; see `search_spaces.supernet`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from foundation.errors import IllegalArchitecture
from search_spaces.network.decoder import Decoder, weights_site
from search_spaces.network.model import Model
from search_spaces.network.options.base import OptionModule
from search_spaces.network.residual import Residual
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.packing import pack, unpack
from search_spaces.quantization.rounding import round_all, round_to_bits
from search_spaces.supernet.weights import Binding, SharedWeights, Weights, leading


class Subnet:
    """One architecture read from a supernet. Stateless: it holds a module without values, and bindings."""

    def __init__(self, supernet: SharedWeights, spec: Decoder) -> None:
        self.supernet, self.spec = supernet, spec
        spec.check()
        with torch.device("meta"):
            self.module = Model(spec)
        self.bindings = tuple(self._bind())
        self._slots = tuple(self._find_slots())

    def weights(self) -> Weights:
        """Views of the shared parameters, rounded to the layers' bits: what `__call__` computes with.

        Gradients flow through them into the shared parameters.
        """
        shared = self.supernet.weights
        return {b.name: at_bits(shared[b.key][b.index], b.bits) for b in self.bindings}

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
                view = self.supernet.weights[binding.key][binding.index]
                if binding.bits is not None:
                    stored = pack(view, binding.bits)
                    view = unpack(stored, binding.bits, view.shape[-1], view.dtype)
                values[binding.name].copy_(view)
        return model

    def _find_slots(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Where the module keeps each parameter, and under which name."""
        owners = dict(self.module.named_modules())
        for binding in self.bindings:
            owner, _, name = binding.name.rpartition(".")
            yield owners[owner]._parameters, name

    def _keys(self) -> dict[str, str]:
        """Where the supernet keeps what the module calls `layers.0.sequence_mixer` and so on."""
        keys = {}
        for path, module in self.module.named_modules():
            if isinstance(module, (Residual, OptionModule)):
                _, index, place = path.split(".")
                keys[path] = f"{weights_site(self.spec.layers[int(index)].shared, int(index))}.{place}"
                keys[path] += f":{type(module.block).__name__}" if isinstance(module, Residual) else ""
        return keys

    def _bind(self) -> Iterator[Binding]:
        bits = weight_bits(self.module)
        keys = self._keys()
        for name, parameter in self.module.named_parameters():
            path = ".".join(name.split(".")[:3])
            key = keys.get(path, path) + name.removeprefix(path)
            shared = self.supernet.weights.get(key)
            if shared is None or any(map(int.__lt__, shared.shape, parameter.shape)):
                has = "none" if shared is None else f"only {tuple(shared.shape)}"
                raise IllegalArchitecture(
                    f"{name} needs {tuple(parameter.shape)}, but the supernet of {self.supernet.name}"
                    f" has {has} at {key}"
                )
            yield Binding(name, key, leading(parameter.shape), bits[name])


def at_bits(values: Tensor, bits: WeightFormat | None) -> Tensor:
    """Values rounded to a format, gradients passing straight through; as they are without one."""
    return values if bits is None else round_to_bits(values, bits)
