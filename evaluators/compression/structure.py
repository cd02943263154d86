"""Structured pruning: heads, channels, experts, states and whole layers are taken out of a trained network.

    importance of a unit = sum over windows of (sum over its weights of w dL/dw)^2     effect
    importance of a unit = sum over its weights of |w| / mean                          magnitude

The inner sum is how much the loss of one window would change if the unit put out nothing, to first order; its
square is the Fisher information's second order (Theis et al. 2018, arXiv:1801.05787, section 2.2; Molchanov
et al. 2019, arXiv:1906.10771). It is taken over the matrix that carries the unit back to the residual stream
where there is one. The least important layer is found by leaving each out in turn, as often as one has to go
(the loss itself, as in ShortGPT's comparison: Men et al. 2024, arXiv:2403.03853).

What is a unit is read off the layout of a block (`Block.layout`): a letter without an order of its own, which
one field of the block counts. So the network that comes out is the smaller architecture whose weights are
slices of the larger one's, in their order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluators.tasks.base import IGNORED
from foundation.errors import EvaluationFailed, IllegalArchitecture
from search_spaces.blocks.base import Block
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model
from search_spaces.network.residual import Residual
from search_spaces.parameter_axes import WIDTH, Layout

UNITS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "heads": (("num_heads",), ("num_heads", "num_kv_heads")),
    "channels": (("expansion",), ("channels",)),
    "experts": (("num_experts",),),
    "states": (("state_dim",),),
}
"""The fields of blocks that count each kind of unit; those that stand together change by the same factor."""

RATIO = "expansion"
"""The one of them that is no count: hidden channels by d_model."""

METHODS = ("effect", "magnitude")

AT_ONCE = 8
"""Windows in one forward pass without gradients."""

Batch: TypeAlias = tuple[Tensor, Tensor]
"""Tokens and targets [W, T]."""

Orders: TypeAlias = Mapping[str, Tensor]
"""The entries that stay of each letter: [n], or [m, n] for a letter within another one."""


@dataclass(frozen=True)
class Cut:
    """What becomes of one block: `block` has `kept` entries of a letter of its layout."""

    block: Block
    letter: str
    kept: int


def cut_of(block: Block, d_model: int, unit: str, share: float) -> Cut | None:
    """The block without a share of its units; None where it has none, only one, or none that may go.

    Raises:
        IllegalArchitecture: there is no such block with so few.
    """
    layout = block.layout()
    if layout is None or share == 0:
        return None
    sizes = layout.sizes(parameter_shapes(block, d_model))
    for fields in UNITS[unit]:
        for letter in layout.sortable.replace(WIDTH, ""):
            count = sizes.get(letter, 1)
            if not any(resized(block, d_model, fields, letter, n) for n in (count - 1, count // 2) if n):
                continue
            kept = max(1, count - round(share * count))
            if kept == count:
                return None
            smaller = _scaled(block, fields, kept, count)
            if smaller is not None:
                smaller.check(d_model)
            if smaller is None or resized(block, d_model, fields, letter, kept) is None:
                raise IllegalArchitecture(f"{type(block).__name__} cannot have {kept} of its {count} {unit}")
            return Cut(smaller, letter, kept)
    return None


def _scaled(block: Block, fields: Sequence[str], kept: int, of: int) -> Block | None:
    """The block with fields times kept / of; None where it lacks one, or one would be no whole number."""
    values: dict[str, Any] = {}
    for name in fields:
        value = getattr(block, name, None)
        if value is None or (name != RATIO and value * kept % of):
            return None
        values[name] = value * kept / of if name == RATIO else value * kept // of
    return replace(block, **values)


def resized(block: Block, d_model: int, fields: Sequence[str], letter: str, kept: int) -> Block | None:
    """The block with so many entries of a letter and nothing else changed; None where fields cannot do it."""
    layout = block.layout()
    assert layout is not None
    sizes = layout.sizes(parameter_shapes(block, d_model))
    smaller = _scaled(block, fields, kept, sizes.get(letter, 1))
    if smaller is None:
        return None
    try:
        smaller.check(d_model)
    except IllegalArchitecture:
        return None
    after = smaller.layout()
    found = after.sizes(parameter_shapes(smaller, d_model)) if after is not None else {}
    return smaller if found == {**sizes, letter: kept} else None


def without_units(spec: Decoder, unit: str, shares: Sequence[float]) -> Decoder:
    """The architecture without a share of these units in each layer.

    Raises:
        IllegalArchitecture: a layer has too few of them.
    """
    layers = []
    for index, (layer, share) in enumerate(zip(spec.layers, shares, strict=True)):
        try:
            layers.append(_smaller_layer(layer, spec.d_model, unit, share))
        except IllegalArchitecture as error:
            raise IllegalArchitecture(f"layers.{index}: {error}") from None
    return replace(spec, layers=tuple(layers))


def _smaller_layer(layer: Layer, d_model: int, unit: str, share: float) -> Layer:
    cuts = {place: cut_of(block, d_model, unit, share) for place, block in layer.blocks.items()}
    smaller: dict[str, Any] = {place: cut.block for place, cut in cuts.items() if cut is not None}
    return replace(layer, **smaller)


def pruned(model: Model, unit: str, shares: Sequence[float], batch: Batch, method: str = "effect") -> Model:
    """The network without the least important units, a share of them in each layer.

    Raises:
        IllegalArchitecture: a layer has too few of them.
        EvaluationFailed: a gradient is not finite.
    """
    spec = without_units(model.spec, unit, shares)
    cuts = dict(_cuts(model, unit, shares))
    importance = _effects(model, cuts, batch) if method == "effect" else _magnitudes(model, cuts)
    with torch.device("meta"):
        smaller = Model(spec)
    smaller.to_empty(device=model.embedding.device)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    for path, (layout, sizes, cut) in cuts.items():
        order = importance[path].argsort(dim=-1, descending=True, stable=True)[..., : cut.kept].sort(-1)[0]
        for own in layout.parameters_with(cut.letter):
            if (name := path + own) in weights:
                weights[name] = layout.reorder(own, weights[name], cut.letter, order, sizes)
    with torch.no_grad():
        for name, weight in smaller.named_parameters():
            assert weight.shape == weights[name].shape, f"{name} is cut to {tuple(weights[name].shape)}"
            weight.copy_(weights[name])
    return smaller.eval()


_Where: TypeAlias = tuple[Layout, Mapping[str, int], Cut]


def _cuts(model: Model, unit: str, shares: Sequence[float]) -> Iterator[tuple[str, _Where]]:
    """What is cut, by the path of the mixer; layers that share weights are cut once."""
    where = {id(module): path for path, module in model.named_modules() if isinstance(module, Residual)}
    for layer, share in zip(model.decoder_layers, shares, strict=True):
        for sublayer in layer.sublayers.values():
            cut = cut_of(sublayer.block, model.spec.d_model, unit, share)
            layout = sublayer.block.layout()
            if cut is not None and layout is not None:
                sizes = layout.sizes(parameter_shapes(sublayer.block, model.spec.d_model))
                yield f"{where[id(sublayer)]}.mixer.", (layout, sizes, cut)


def _effects(model: Model, cuts: Mapping[str, _Where], batch: Batch) -> dict[str, Tensor]:
    """Squared first-order effects of the units on the loss, summed over windows."""
    if not cuts:
        return {}
    weights = dict(model.named_parameters())
    carriers = {
        path: _carriers(layout, cut.letter, [name for name in weights if name.startswith(path)], path)
        for path, (layout, _, cut) in cuts.items()
    }
    needed = {name: weights[name] for names in carriers.values() for name in names}
    totals: dict[str, Tensor] = {}
    for tokens, targets in zip(*batch, strict=True):
        with torch.enable_grad():
            loss = _loss(model, tokens[None], targets[None])
            # an expert that no token of a window reaches has no gradient there
            found = torch.autograd.grad(loss, list(needed.values()), allow_unused=True)
        gradients = dict(zip(needed, found, strict=True))
        for path, (layout, sizes, cut) in cuts.items():
            effect = torch.zeros((), dtype=torch.float64, device=loss.device)
            for name in carriers[path]:
                gradient = gradients[name]
                if gradient is None:
                    gradient = torch.zeros_like(weights[name])
                products = (weights[name].detach() * gradient).double()
                effect = effect + layout.sums(name.removeprefix(path), products, cut.letter, sizes)
            if not effect.isfinite().all():
                raise EvaluationFailed(f"the gradients of {path[:-1]} are not finite on the calibration text")
            totals[path] = totals.get(path, 0) + effect.square()
    return totals


def _carriers(layout: Layout, letter: str, names: Sequence[str], path: str) -> list[str]:
    """The parameters that carry a letter's entries to the residual stream, or else all that have it."""
    held = [name for name in names if name.removeprefix(path) in layout.parameters_with(letter)]
    out = [name for name in held if WIDTH in layout.words(name.removeprefix(path))[:-1]]
    return out or held


@torch.no_grad()
def _magnitudes(model: Model, cuts: Mapping[str, _Where]) -> dict[str, Tensor]:
    """L1 norms of the units' weights; each parameter counts by its mean."""
    weights, totals = dict(model.named_parameters()), dict[str, Tensor]()
    for path, (layout, sizes, cut) in cuts.items():
        parts = []
        for own in layout.parameters_with(cut.letter):
            if path + own in weights:
                norm = layout.sums(own, weights[path + own].abs().double(), cut.letter, sizes)
                parts.append(norm / norm.mean().clamp_min(torch.finfo(norm.dtype).tiny))
        totals[path] = torch.stack(parts).sum(0)
    return totals


def with_layers(model: Model, kept: Sequence[int]) -> Model:
    """The network of these layers alone; it shares its weights with `model`."""
    with torch.device("meta"):
        shorter = Model(replace(model.spec, layers=tuple(model.spec.layers[index] for index in kept)))
    shorter.layers = nn.ModuleList(model.decoder_layers[index] for index in kept)
    for name, weight in model.named_parameters(recurse=False):
        setattr(shorter, name, weight)
    return shorter.train(model.training)


@torch.no_grad()
def least_needed(model: Model, count: int, batch: Batch) -> list[int]:
    """The layers that stay when `count` go: each time that whose absence costs least on these windows."""
    kept = list(range(len(model.spec.layers)))
    for _ in range(count):
        losses = {index: _mean(model, [other for other in kept if other != index], batch) for index in kept}
        kept.remove(min(kept, key=losses.__getitem__))
    return kept


def _mean(model: Model, kept: Sequence[int], batch: Batch) -> float:
    """The mean loss of some layers alone; of one that is not finite, infinity."""
    shorter = with_layers(model, kept)
    parts = zip(batch[0].split(AT_ONCE), batch[1].split(AT_ONCE), strict=True)
    total = float(sum(_loss(shorter, tokens, targets) * len(tokens) for tokens, targets in parts))
    return total if total == total else float("inf")


def _loss(model: Model, tokens: Tensor, targets: Tensor) -> Tensor:
    device = model.embedding.device
    said, wanted = model(tokens.to(device)), targets.to(device)
    return F.cross_entropy(said[wanted != IGNORED].float(), wanted[wanted != IGNORED])
