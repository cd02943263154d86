"""An architecture at the sizes of a space: what a published network would be, had it been drawn from there.

    at_sizes_of(space, zoo["lfm2"].spec)         at widths and depths within those of the space
    matched(sizes, member)                       the one to hold against a member of its front

Depths are those of the space, widths go from its narrowest to its widest in steps of 8, or of 64 from 256 on:
finer than the space, so that there is a size for any number of bytes. The proportions are those of the
architecture: heads, inner channels and ranks grow with the width, heads up to 64 wide and then in number, key
and value heads by their share (one of four becomes three of twelve). Windows, states, kernels and numbers of
experts are the nearest that the space offers for the same kind of block, or stay as they are where it offers
none. A stack is lengthened by repeating it, and shortened evenly as long as one layer of each kind is left;
layers of one sublayer count half, as in comparisons of Mamba with a transformer (Gu & Dao 2023,
arXiv:2312.00752, section 3.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.base import Block
from search_spaces.language.choices import OneOf
from search_spaces.language.space import Space
from search_spaces.language.walk import alternatives, children, closed_values
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

WIDEST_HEAD = 64
"""Channels of a head, up to which heads become wider rather than more."""

FINE_STEP, COARSE_STEP, COARSE_FROM = 8, 64, 256
"""Steps of widths between those of a space, and from which width on they are the coarse ones."""

BY_WIDTH = ("channels", "dt_rank", "kv_rank")
"""Fields of blocks that grow with the width, besides heads."""

Offers: TypeAlias = Mapping[str, Mapping[str, frozenset[int]]]
"""Whole numbers that a space has, by kind of block and field."""


def at_sizes_of(space: Space, architecture: Decoder) -> list[Decoder]:
    """The architecture at the widths and depths within those of a space of decoders, smallest first.

    Raises:
        SpaceError: it cannot be built at any of them.
    """
    offers, reasons, sizes = _offers(space.root), list[str](), dict[Decoder, None]()
    for root in decoders_of(space.root):
        vocab = max(closed_values(root.vocab))
        depths = sorted({len(stack.node) for stack in alternatives(root.layers) if stack.node})
        for width in _widths(set(closed_values(root.d_model))):
            for depth in depths:
                try:
                    layers = _deep(_wide(architecture, width, offers), depth)
                    size = replace(architecture, vocab=vocab, d_model=width, layers=layers)
                    size.check()
                    sizes[size] = None
                except IllegalArchitecture as error:
                    reasons.append(str(error))
    if not sizes:
        raise SpaceError(f"it has no size within the widths and depths of {space.name}: {reasons[0]}")
    return sorted(sizes, key=weight_bytes)


def matched(sizes: Sequence[Decoder], member: Decoder) -> Decoder:
    """The smallest of these sizes that stores at least as many bytes as `member`, or the largest.

    Each has the bits that most layers of the member have, unless its own are not the default, so that both
    are compared at equal precision. What is larger has the advantage.
    """
    bits = Counter(layer.bits for layer in member.layers).most_common(1)[0][0] if member.layers else Bits()
    alike = sorted((with_bits(size, bits) for size in sizes), key=weight_bytes)
    wanted = weight_bytes(member)
    return next((size for size in alike if weight_bytes(size) >= wanted), alike[-1])


def widened(architecture: Decoder, width: int) -> Decoder:
    """The same at another width: heads, inner channels and ranks grow with it, and keys as wide as values."""
    layers = _wide(architecture, width, {}) if width != architecture.d_model else architecture.layers
    return replace(architecture, d_model=width, layers=layers)


def with_bits(architecture: Decoder, bits: Bits) -> Decoder:
    """The same with these bits in every layer that has the default ones."""
    layers = tuple(
        replace(layer, bits=bits) if layer.bits == Bits() else layer for layer in architecture.layers
    )
    return replace(architecture, layers=layers)


def weight_bytes(architecture: Decoder) -> int:
    """Bytes that its weights are stored in."""
    return architecture.cost(Scenario()).weight_bytes


def decoders_of(root: Any) -> list[Decoder]:
    """The decoders, open inside, that the tree of a space may become.

    Raises:
        SpaceError: it may become something else.
    """
    roots = root.options if isinstance(root, OneOf) else (root,)
    if wrong := [each for each in roots if not isinstance(each, Decoder)]:
        raise SpaceError(f"only spaces of Decoder have sizes, and this is one of {type(wrong[0]).__name__}")
    return list(roots)


def _widths(offered: set[int]) -> list[int]:
    """Those that are offered, and multiples of a step between them."""
    low, high = min(offered), max(offered)
    step = FINE_STEP if low < COARSE_FROM else COARSE_STEP
    return sorted(offered | set(range(low + -low % step, high, step)))


def _wide(architecture: Decoder, width: int, offers: Offers) -> tuple[Layer, ...]:
    """Its layers, as they would be at this width."""
    by = width / architecture.d_model
    layers = []
    for layer in architecture.layers:
        blocks: dict[str, Any] = {p: _sized(block, by, offers) for p, block in layer.blocks.items()}
        layers.append(replace(layer, **blocks))
    return tuple(layers)


def _sized(block: Block, by: float, offers: Offers) -> Block:
    """A block at `by` times the width."""
    kind = type(block).__name__
    numbers = {
        field.name: value
        for field in fields(block)
        if isinstance(value := getattr(block, field.name), int) and not isinstance(value, bool)
    }
    changes = {name: max(1, round(numbers[name] * by)) for name in BY_WIDTH if name in numbers}
    heads = _heads(numbers, by, offers.get(kind, {})) if "num_heads" in numbers else {}
    if "state_dim" in numbers and numbers["state_dim"] == numbers.get("head_dim"):
        heads["state_dim"] = heads["head_dim"]  # keys as wide as values
    for name, value in numbers.items():
        offered = offers.get(kind, {}).get(name)
        if offered and name not in changes and name not in HEADS:
            wanted = value * by if name == "state_dim" else value
            changes[name] = min(sorted(offered), key=lambda each: abs(each - wanted))
    return replace(block, **{**heads, **changes})


HEADS = ("num_heads", "num_kv_heads", "window_heads", "head_dim", "rope_dim")
"""Fields that `_heads` gives."""


def _heads(numbers: Mapping[str, int], by: float, offered: Mapping[str, frozenset[int]]) -> dict[str, int]:
    """Heads as wide and as many as `by` times the width needs."""
    count, wide = numbers["num_heads"], numbers.get("head_dim", WIDEST_HEAD)
    head_dim = min(WIDEST_HEAD, 4 * max(1, round(wide * by / 4)))
    num_heads = max(1, round(count * wide * by / head_dim))
    sizes = {"num_heads": num_heads, **({"head_dim": head_dim} if "head_dim" in numbers else {})}
    if "rope_dim" in numbers:
        sizes["rope_dim"] = 2 * max(1, round(numbers["rope_dim"] * head_dim / wide / 2))
    for name in ("num_kv_heads", "window_heads"):
        if name in numbers:
            most = min(num_heads, max(offered.get(name, {num_heads})))
            wanted = min(most, max(1, round(num_heads * numbers[name] / count)))
            sizes[name] = max(n for n in range(1, wanted + 1) if num_heads % n == 0)
    return sizes


def _deep(layers: tuple[Layer, ...], depth: int) -> tuple[Layer, ...]:
    """The layers as a stack with as many sublayers as `depth` whole layers have.

    Raises:
        IllegalArchitecture: a kind of layer would be lost.
    """
    count, kinds = len(layers), dict.fromkeys(layers)
    wanted = max(1, round(2 * depth * count / sum(len(layer.blocks) for layer in layers)))
    if wanted >= count:
        return tuple(layers[i % count] for i in range(wanted))
    if wanted < len(kinds):
        raise IllegalArchitecture(f"{depth} layers are too few for its {len(kinds)} kinds of layers")
    stack = [layers[i * count // wanted] for i in range(wanted)]
    for kind in kinds:
        if kind not in stack:  # in the place of the last layer that has its like before it
            stack[max(i for i, layer in enumerate(stack) if layer in stack[:i])] = kind
    return tuple(stack)


def _offers(root: Any) -> Offers:
    """What the blocks of a space offer in whole numbers."""
    offers: dict[str, dict[str, set[int]]] = {}
    for block in _blocks(root, set()):
        own = offers.setdefault(type(block).__name__, {})
        for field in fields(block):
            values = closed_values(getattr(block, field.name))
            own.setdefault(field.name, set()).update(v for v in values if type(v) is int)
    return {
        kind: {name: frozenset(found) for name, found in own.items() if found} for kind, own in offers.items()
    }


def _blocks(node: Any, seen: set[int]) -> Iterator[Block]:
    """The blocks of a tree, each once, however often it stands there."""
    if id(node) in seen or not (isinstance(node, tuple) or is_dataclass(node)):
        return
    seen.add(id(node))
    if isinstance(node, Block):
        yield node
    for part in node.options if isinstance(node, OneOf) else [part for _, part in children(node)]:
        yield from _blocks(part, seen)
