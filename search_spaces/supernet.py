"""The supernet: one set of weights, read as any architecture of a space.

Per place and block kind it holds every parameter at its largest shape in the space. A subnet is the ordinary
module of its size, built once on the meta device, and called with leading slices of the large parameters in
the place of its own, which have no values. No block contains elastic code, activating a subnet changes
nothing in the supernet, and what a subnet computes is bit for bit what its extracted copy computes.

    supernet = Supernet(space, seed=0)
    subnet = supernet.subnet(spec)
    logits = subnet(tokens)                  # slice
    model = subnet.extract()                 # copy: a plain model

The idea of slices of one largest network is that of slimmable networks (Yu et al. 2019, arXiv:1812.08928) and
once-for-all (Cai et al. 2020, arXiv:1908.09791).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.base import Block
from search_spaces.language.choices import OneOf, field_names
from search_spaces.language.space import Space
from search_spaces.network.adaptive_depth import Exit, Router
from search_spaces.network.decoder import PLACES, Decoder, parameter_shapes, weights_site
from search_spaces.network.embedding_reader import EmbeddingReader
from search_spaces.network.model import Model, Residual, dice_at
from search_spaces.quantization.bits import WeightFormat, is_matrix, pack, round_all, round_to_bits, unpack

Weights: TypeAlias = dict[str, Tensor]
"""Parameters of one subnet by their names in its model."""

OPTIONS = ("routing", "exit", "reads_embedding")
"""Fields of a layer that hold parameters beside the blocks."""

ALIGNED = 32
"""Values that lie in one piece with others begin at multiples of so many, 64 bytes or more: kernels that copy
whole vectors ask for 16."""

KEPT_SUBNETS = 256
"""How many subnets keep their (empty) module; the rest are rebuilt when they come again."""


@dataclass(frozen=True)
class Binding:
    """Where one parameter of a subnet lives: a leading slice of the supernet's `key`, at `bits`."""

    name: str
    key: str
    index: tuple[slice, ...]
    bits: WeightFormat | None

    @property
    def plain(self) -> bool:
        """Whether it is stored at 16 bits."""
        return self.bits is not None and self.bits.bits == 16


class Supernet:
    """Shared weights for every architecture of `space`, whose root must be a `Decoder`.

    Raises:
        SpaceError: the root is no decoder, or no block of some place can be built.
    """

    def __init__(self, space: Space, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
        self.space, self.device = space, torch.device(device)
        self.weights: dict[str, nn.Parameter] = {}
        self.rates: dict[str, float] = {}
        self._subnets: OrderedDict[Decoder, Subnet] = OrderedDict()
        self._room: Tensor | None = None
        self._grads: dict[str, Tensor] = {}
        self._used: set[str] = set()
        self._allocate(seed)

    def subnet(self, spec: Decoder) -> Subnet:
        """The subnet of a closed configuration.

        Raises:
            IllegalArchitecture: the supernet holds no weights for it, or not large enough ones.
        """
        known = self._subnets.get(spec)
        if known is None:
            known = self._subnets[spec] = Subnet(self, spec)
            if len(self._subnets) > KEPT_SUBNETS:
                self._subnets.popitem(last=False)
        self._subnets.move_to_end(spec)
        return known

    def parameters(self) -> list[nn.Parameter]:
        """Every shared parameter, in a fixed order."""
        return list(self.weights.values())

    def zero_grad(self) -> None:
        """Forget all gradients; what no subnet touches afterwards stays without one."""
        for weight in self.weights.values():
            weight.grad = None
        if self._room is not None and self._used:
            self._room.zero_()
            self._used.clear()

    def accumulate(self, subnet: Subnet, leaves: Weights) -> None:
        """Add the gradients of a subnet's leaves (see `Subnet.leaves`) to the shared parameters.

        Adding into the slice costs the subnet's size; autograd through the slicing would make a dense
        gradient of the largest shape for every view.
        """
        for binding in subnet.bindings:
            grad = leaves[binding.name].grad
            if grad is None:
                continue
            weight = self.weights[binding.key]
            if weight.grad is None and grad.shape == weight.shape:
                weight.grad = grad
                continue
            if weight.grad is None:
                weight.grad = self._zeroed(binding.key)
            weight.grad[binding.index].add_(grad)

    @torch.no_grad()
    def at_sixteen(self) -> Weights:
        """Every shared parameter rounded to bfloat16, by its key, as it is now.

        Each value is rounded by itself, so slices of these are the rounded slices: once for all subnets of a
        step (see `Subnet.leaves`), in a few operations. A second copy of all weights, which share one dtype.
        """
        gap = next(iter(self.weights.values())).new_zeros(ALIGNED)
        pieces = [
            part
            for weight in self.weights.values()
            for part in (weight.flatten(), gap[: -weight.numel() % ALIGNED])
            if len(part)
        ]
        flat = torch.cat(pieces)
        return dict(zip(self.weights, self._cut(flat.to(torch.bfloat16).to(flat.dtype)), strict=True))

    def _cut(self, flat: Tensor) -> list[Tensor]:
        """Values that lie in one piece, in the shapes of the parameters; each begins at a round address."""
        shapes = [weight.shape for weight in self.weights.values()]
        parts = flat.split([_room_of(shape) for shape in shapes])
        return [part[: shape.numel()].view(shape) for part, shape in zip(parts, shapes, strict=True)]

    def _zeroed(self, key: str) -> Tensor:
        """Room for a gradient. All lie in one piece, which is emptied at once (`zero_grad`)."""
        if self._room is None:
            weights = list(self.weights.values())
            self._room = weights[0].new_zeros(sum(_room_of(weight.shape) for weight in weights))
            self._grads = dict(zip(self.weights, self._cut(self._room), strict=True))
        if key in self._used:  # the gradients were dropped by somebody else
            self._grads[key].zero_()
        self._used.add(key)
        return self._grads[key]

    def _allocate(self, seed: int) -> None:
        found = inventory(self.space.root)
        d_model, vocab = max(found.widths), max(found.vocabularies)
        dice = dice_at(seed, "embedding", self.device)
        embedding = torch.empty(vocab, d_model, device=self.device)
        self._add("embedding", embedding.normal_(std=d_model**-0.5, generator=dice), Block.learning_rate)
        self._add("norm", torch.ones(d_model, device=self.device), Block.learning_rate)
        for (place, kind), blocks in found.variants.items():
            self._allocate_kind(f"{place}:{kind}", place, [b for b in blocks if buildable(*b)], seed)
        for path, option in found.options.items():
            with torch.device(self.device), torch.no_grad():
                module = _option_module(path, option, d_model, vocab)
                module.reset_parameters(dice_at(seed, path, self.device))
            for name, values in module.named_parameters():
                self._add(f"{path}.{name}", values.detach(), Block.learning_rate)

    def _allocate_kind(self, prefix: str, place: str, variants: list[tuple[Block, int]], seed: int) -> None:
        """Parameters of one kind of block at one place, filled from the largest variants."""
        if not variants:
            raise SpaceError(f"{prefix}: no variant of this block can be built")
        shapes: dict[str, tuple[int, ...]] = {}
        for block, d_model in variants:
            for name, shape in parameter_shapes(block, d_model).items():
                shapes[name] = tuple(map(max, shape, shapes.get(name, shape)))
        large = {name: torch.zeros(shape, device=self.device) for name, shape in shapes.items()}
        for block, d_model in _covering(variants):
            with torch.device(self.device), torch.no_grad():
                module = block.build(d_model)
                module.reset_parameters(dice_at(seed, place, self.device))
                for name, values in module.named_parameters():
                    large[name][_leading(values.shape)] = values
        rate = variants[0][0].learning_rate
        widest = max(d_model for _, d_model in variants)
        self._add(f"{prefix}.norm", torch.ones(widest, device=self.device), rate)
        for name, filled in large.items():
            self._add(f"{prefix}.mixer.{name}", filled, rate)

    def _add(self, key: str, values: Tensor, rate: float) -> None:
        self.weights[key] = nn.Parameter(values)
        self.rates[key] = rate


class Subnet:
    """One architecture read from a supernet. Stateless: it holds a module without values, and bindings."""

    def __init__(self, supernet: Supernet, spec: Decoder) -> None:
        self.supernet, self.spec = supernet, spec
        spec.check()
        with torch.device("meta"):
            self.module = Model(spec)
        self.bindings = tuple(self._bind())
        self._slots = tuple(self._slot(binding.name) for binding in self.bindings)

    def weights(self) -> Weights:
        """Views of the shared parameters, rounded to the layers' bits: what `__call__` computes with.

        Gradients flow through them into the shared parameters.
        """
        shared = self.supernet.weights
        return {b.name: _at_bits(shared[b.key][b.index], b.bits) for b in self.bindings}

    def leaves(self, sixteen: Weights | None = None) -> Weights:
        """The views detached, as leaves of their own, for `Supernet.accumulate`.

        Given `Supernet.at_sixteen()`, what is stored at 16 bits is read from there, and already rounded: its
        gradient is that of the weight, as it passes straight through.
        """
        shared = self.supernet.weights
        return {
            b.name: (shared[b.key].detach() if sixteen is None or not b.plain else sixteen[b.key])[
                b.index
            ].requires_grad_()
            for b in self.bindings
        }

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

    def _slot(self, path: str) -> tuple[dict[str, Any], str]:
        """Where the module keeps a parameter, and under which name."""
        owner, _, name = path.rpartition(".")
        return self.module.get_submodule(owner)._parameters, name

    def _keys(self) -> dict[str, str]:
        """Where the supernet keeps what the module calls `layers.0.sequence_mixer` and so on."""
        keys = {}
        for path, module in self.module.named_modules():
            if isinstance(module, (Residual, Router, Exit, EmbeddingReader)):
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
                    f"{name} needs {tuple(parameter.shape)}, but the supernet of {self.supernet.space.name}"
                    f" has {has} at {key}"
                )
            yield Binding(name, key, _leading(parameter.shape), bits[name])


def _room_of(shape: torch.Size) -> int:
    return shape.numel() + -shape.numel() % ALIGNED


def weight_bits(model: Model) -> dict[str, WeightFormat | None]:
    """How each parameter of a model is stored; None for those that stay in 32 bits."""
    widths: dict[str, WeightFormat | None] = {}
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        in_block = parts[0] == "layers" and parts[2] in PLACES
        bits = model.spec.layers[int(parts[1])].bits.stored if in_block else WeightFormat()
        widths[name] = bits if is_matrix(tuple(parameter.shape)) else None
    return widths


def option_kind(path: str) -> type[Router | Exit | EmbeddingReader]:
    """The module of the option of a layer at a path; see `OPTIONS`."""
    name = path.rpartition(".")[2]
    return {"routing": Router, "exit": Exit, "reads_embedding": EmbeddingReader}[name]


def _option_module(path: str, option: Any, d_model: int, vocab: int) -> Router | Exit | EmbeddingReader:
    """The module of an option of a layer, filled by nobody yet."""
    kind = option_kind(path)
    if kind is EmbeddingReader:
        return EmbeddingReader(d_model)
    return Router(option, d_model) if kind is Router else Exit(option, d_model, vocab)


def _at_bits(values: Tensor, bits: WeightFormat | None) -> Tensor:
    return values if bits is None else round_to_bits(values, bits)


def _leading(shape: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(size) for size in shape)


def buildable(block: Block, d_model: int) -> bool:
    """Whether a block can stand in a network of this width."""
    try:
        block.check(d_model)
    except IllegalArchitecture:
        return False
    return True


def _covering(variants: list[tuple[Block, int]]) -> list[tuple[Block, int]]:
    """The variants that no other one covers in every axis of every parameter, small ones first."""
    kept: list[tuple[Block, int]] = []
    by_size = sorted(variants, key=lambda v: -sum(map(_numel, parameter_shapes(*v).values())))
    for variant in by_size:
        if not any(_covers(larger, variant) for larger in kept):
            kept.append(variant)
    return kept[::-1]


def _covers(larger: tuple[Block, int], smaller: tuple[Block, int]) -> bool:
    large, small = parameter_shapes(*larger), parameter_shapes(*smaller)
    return all(name in large and all(map(int.__ge__, large[name], shape)) for name, shape in small.items())


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


Variants: TypeAlias = "dict[tuple[str, str], dict[tuple[Block, int], None]]"


class Inventory(NamedTuple):
    """What an open decoder may consist of.

    Every width, every vocabulary, every (block, width) by place and kind, and every option of a layer with
    parameters (see `OPTIONS`) by its path.
    """

    widths: set[int]
    vocabularies: set[int]
    variants: Variants
    options: dict[str, Any]


def inventory(root: Any) -> Inventory:
    """What an open decoder may consist of; blocks that cannot be built at a width are among it.

    Raises:
        SpaceError: the root is no decoder.
    """
    found = Inventory(set(), set(), {}, {})
    for decoder in alternatives(root):
        if not isinstance(decoder, Decoder):
            raise SpaceError(f"a supernet needs a space of Decoder, got {type(decoder).__name__}")
        here = set(closings(decoder.d_model))
        found.widths.update(here)
        found.vocabularies.update(closings(decoder.vocab))
        for stack in alternatives(decoder.layers):
            for i, open_layer in enumerate(stack):
                for path, block in _parts_of(open_layer, i, PLACES):
                    known = found.variants.setdefault((path, type(block).__name__), {})
                    known |= dict.fromkeys(product([block], sorted(here)))
                found.options.update(_parts_of(open_layer, i, OPTIONS))
    return found


def _parts_of(open_layer: Any, index: int, names: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Every closed part that may stand in these fields of a layer, with the path of its weights."""
    for layer in alternatives(open_layer):
        sites = {weights_site(name, index) for name in closings(layer.shared)}
        for name in names:
            for part in closings(getattr(layer, name)):
                if part is not None and part is not False:
                    yield from ((f"{site}.{name}", part) for site in sorted(sites))


def alternatives(node: Any) -> tuple[Any, ...]:
    """The options of an open value, or the value itself."""
    return node.options if isinstance(node, OneOf) else (node,)


def closings(node: Any) -> Iterator[Any]:
    """Every closed value of a part of a space (each use of a shared choice taken by itself)."""
    if isinstance(node, OneOf):
        for option in node.options:
            yield from closings(option)
    elif isinstance(node, tuple):
        yield from (tuple(parts) for parts in product(*(tuple(closings(part)) for part in node)))
    elif hasattr(node, "__dataclass_fields__"):
        names = field_names(type(node))
        for values in product(*(tuple(closings(getattr(node, name))) for name in names)):
            yield type(node)(**dict(zip(names, values, strict=True)))
    else:
        yield node
