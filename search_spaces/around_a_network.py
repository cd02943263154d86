"""A space around a network, as a Python file to edit: its own layers, and what may stand in their place.

    text = source_of_space(spec, Alternatives(bits=(8, 4, 3), windows=(256,)), name="around", defaults={})

Runs of equal layers are written once. Every layer has its own part as the first of each choice, so the space
holds the network itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from itertools import groupby
from typing import Any

from foundation.errors import SettingError
from search_spaces.alternatives import Alternatives
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.printing import is_set
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.quantization.bits import LEAST_INPUTS, Bits

INDENT = " " * 4


def _linear_attention(own: Attention) -> Block:
    return LinearAttention(num_heads=own.num_heads, head_dim=own.head_dim, state_dim=own.head_dim)


def _gated_delta_net(own: Attention) -> Block:
    return GatedDeltaNet(num_heads=own.num_heads, head_dim=own.head_dim, state_dim=own.head_dim)


def _mamba2(own: Attention) -> Block:
    return Mamba2(num_heads=own.num_heads, head_dim=own.head_dim, state_dim=own.head_dim)


MIXERS: Mapping[str, Callable[[Attention], Block]] = {
    "linear_attention": _linear_attention,
    "gated_delta_net": _gated_delta_net,
    "mamba2": _mamba2,
}
"""What may stand in the place of attention, at its sizes: `alternatives.MIXERS` names them."""


def source_of_space(
    network: Decoder, wanted: Alternatives, *, name: str, about: str, defaults: Mapping[str, Any]
) -> str:
    """The source of a space around a network; `about` says what that is, `defaults` are those of its studies.

    Raises:
        SettingError: the network is of few bits itself, so that it cannot be the parent of others; heads of
            keys and values that none of its attention can have.
    """
    _check_kv_heads(network, wanted)
    if any(layer.bits_at(place).weight != 16 for layer in network.layers for place in layer.blocks):
        raise SettingError(
            f"{about} has layers of few bits: take the network that they were rounded from, or one of 16 bits"
        )
    runs = [(layer, len(list(run))) for layer, run in groupby(network.layers)]
    kinds: dict[Layer, str] = {
        layer: f"layer_{number}" for number, (layer, _) in enumerate(dict(runs).items())
    }
    definitions = [
        f"{kinds[layer]} = Layer(\n{''.join(_layer_lines(layer, wanted, network.d_model))})\n"
        for layer in kinds
    ]
    stack = ", ".join(kinds[layer] if times == 1 else f"*[{kinds[layer]}] * {times}" for layer, times in runs)
    around = ["vocab", "d_model", *(part for part in ("norm", "embedding", "head") if is_set(network, part))]
    shell = [f"{part}={source(getattr(network, part))}" for part in around]
    decoder = ",\n".join(f"{INDENT * 2}{part}" for part in [*shell, f"layers=({stack},)"])
    settings = json.dumps(dict(defaults), indent=4).replace("\n", f"\n{INDENT}")
    parts = [
        layer_part
        for layer in kinds
        for layer_part in (layer, *_alternatives(layer, wanted, network.d_model))
    ]
    return "\n".join(
        [
            f'"""A space around {about}: its layers as they are, and what may stand in their place."""\n',
            *_imports([*parts, *(getattr(network, part) for part in around)]),
            "",
            "# every layer has genes of its own; the first option of a choice is what the network has",
            *definitions,
            "space = Space(",
            f"{INDENT}Decoder(\n{decoder},\n{INDENT}),",
            f"{INDENT}name={json.dumps(name)},",
            f"{INDENT}defaults={settings},",
            ")\n",
        ]
    )


def source(part: Any) -> str:
    """A closed part as the expression that makes it, fields at their defaults left out."""
    if isinstance(part, tuple):
        return f"({', '.join(map(source, part))}{',' if len(part) == 1 else ''})"
    if not is_dataclass(part) or isinstance(part, type):
        return repr(part)
    shown = [f"{f.name}={source(getattr(part, f.name))}" for f in fields(part) if is_set(part, f.name)]
    return f"{type(part).__name__}({', '.join(shown)})"


def _layer_lines(layer: Layer, wanted: Alternatives, d_model: int) -> Iterator[str]:
    """The fields of a layer, a choice where there are alternatives."""
    for place in PLACES:
        own = getattr(layer, place)
        options = list(dict.fromkeys(map(source, (own, *_in_place_of(own, place, wanted, d_model)))))
        if len(options) > 1:
            yield f"{INDENT}{place}=one_of(\n"
            yield from (f"{INDENT * 2}{option},\n" for option in options)
            yield f"{INDENT}),\n"
        elif is_set(layer, place):
            yield f"{INDENT}{place}={options[0]},\n"
    bits = list(dict.fromkeys(b for b in wanted.bits if b))
    if bits:
        yield from _bits_lines("bits", layer.bits, bits, wanted.group)
    if bits and layer.channel_mixer is not None:
        yield from _bits_lines("channel_bits", layer.bits_at(PLACES[1]), bits, wanted.group)
    chosen = ("bits", "channel_bits") if bits else ()
    for field in fields(layer):
        if field.name not in (*PLACES, *chosen) and is_set(layer, field.name):
            yield f"{INDENT}{field.name}={source(getattr(layer, field.name))},\n"


def _bits_lines(field: str, own: Bits, bits: list[int], group: int) -> Iterator[str]:
    """A choice of the bits of weights: the network's own, or one of these in groups of that size."""
    if group == own.group:
        more = "".join(
            f", {n}={getattr(own, n)!r}" for n in ("group", "activation", "state") if is_set(own, n)
        )
        yield f"{INDENT}{field}=Bits(weight=one_of(16, {', '.join(map(str, bits))}){more}),\n"
        return
    # the network's own bits have another group, and stay one of the options
    few = [replace(own, weight=weight, group=group) for weight in bits]
    yield f"{INDENT}{field}=one_of(\n"
    yield from (f"{INDENT * 2}{source(option)},\n" for option in (own, *few))
    yield f"{INDENT}),\n"


def _alternatives(layer: Layer, wanted: Alternatives, d_model: int) -> Iterator[Any]:
    """All blocks that may stand in a layer beside its own."""
    for place in PLACES:
        yield from _in_place_of(getattr(layer, place), place, wanted, d_model)


def _in_place_of(own: Block | None, place: str, wanted: Alternatives, d_model: int) -> Iterator[Block | None]:
    """What may stand at a place in the place of a block."""
    if own is None:
        return
    if isinstance(own, Attention):
        yield from (replace(own, window=size) for size in wanted.windows if size < (own.window or 2**30))
        yield from (MIXERS[name](own) for name in wanted.mixers)
        yield from (replace(own, num_kv_heads=heads) for heads in wanted.kv_heads if _divides(heads, own))
    if isinstance(own, SwiGLU) and not own.biases:
        yield from (replace(own, expansion=kept / d_model) for kept in _narrower(own, wanted, d_model))
    if wanted.skip:
        yield Skip() if place == PLACES[0] else None


def _check_kv_heads(network: Decoder, wanted: Alternatives) -> None:
    own = {layer.sequence_mixer for layer in network.layers if isinstance(layer.sequence_mixer, Attention)}
    for heads in wanted.kv_heads:
        if any(_divides(heads, block) for block in own):
            continue
        counts = sorted({block.num_kv_heads for block in own})
        fitting = [n for n in range(1, max(counts, default=1)) if any(_divides(n, block) for block in own)]
        has = f"has {' and '.join(map(str, counts))}" if counts else "has no attention"
        fit = (
            f"fewer that can be made of them: {', '.join(map(str, fitting))}" if fitting else "none is fewer"
        )
        raise SettingError(f"kv_heads: {heads} cannot be means of the network's heads, which {has}; {fit}")


def _divides(heads: int, own: Attention) -> bool:
    """Whether attention may have so many heads of keys and values, each the mean of neighbours."""
    whole = own.biases != "none" or (own.qk_norm and own.qk_norm_over == "heads")
    return heads < own.num_kv_heads and own.num_kv_heads % heads == 0 and not whole


def _narrower(own: SwiGLU, wanted: Alternatives, d_model: int) -> Iterator[int]:
    """The hidden channels that stay: of many, a multiple of 8; and as many as a matrix of few bits has."""
    hidden = own.hidden(d_model)
    step = 8 if hidden >= 64 else 1
    for share in wanted.narrower:
        kept = max(LEAST_INPUTS, round(share * hidden / step) * step)
        if kept < hidden:
            yield kept


def _imports(parts: list[Any]) -> Iterator[str]:
    """The lines that import all that a file names."""
    yield "from search_spaces import Bits, Decoder, Layer, Space, one_of"
    kinds = {type(node) for part in parts for node in _nodes(part)} - {Decoder, Layer}
    places = {f"from {kind.__module__} import {kind.__name__}" for kind in kinds if kind.__name__ != "Bits"}
    yield from sorted(places)


def _nodes(part: Any) -> Iterator[Any]:
    """A part and all parts in it that its source names."""
    if isinstance(part, tuple):
        for each in part:
            yield from _nodes(each)
    elif is_dataclass(part) and not isinstance(part, type):
        yield part
        for field in fields(part):
            if is_set(part, field.name):
                yield from _nodes(getattr(part, field.name))
