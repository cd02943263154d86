"""A network in a line: `d48: EMA(expansion=2)+SwiGLU, Attention+SwiGLU`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from itertools import groupby
from typing import Any, TypeAlias

from search_spaces.language.choices import field_names
from search_spaces.language.printing import brief
from search_spaces.language.varying import NOTHING, Varying, told
from search_spaces.network.decoder import AROUND, Decoder, Layer, has_plain_layers

TIMES = "\N{MULTIPLICATION SIGN}"

WIDTHS = ("weight", "state", "activation")
"""Of the fields of `Bits` those that are written as a letter and a number, in this order."""

Tell: TypeAlias = Callable[[Any, Varying], str]
"""What a block is, in words."""


def network_line(spec: Any, varying: Varying = NOTHING) -> str:
    """The layers of a network in a line, runs of equal ones counted; of anything else, what it is made of.

    What varies in the space is told: two networks of it have different lines.
    """
    if not has_plain_layers(spec):
        return " ".join(brief(spec).split())
    layers = ", ".join(counted_runs(layer_line(layer, varying, "+") for layer in spec.layers))
    return "; ".join([f"d{spec.d_model}: {layers}", *around_text(spec, varying)])


def counted_runs(layers: Iterable[str]) -> list[str]:
    """Layers in order, equal ones that follow each other as one with their number."""
    runs = [(layer, len(list(run))) for layer, run in groupby(layers)]
    return [layer if times == 1 else f"{times} {TIMES} {layer}" for layer, times in runs]


def layer_line(layer: Layer, varying: Varying, plus: str, tell: Tell = told) -> str:
    """What varies in the space of a layer: `Attention(num_kv_heads=2)+SwiGLU w4 [halves side by side]`.

    `tell` says what a block is.
    """
    blocks = plus.join(tell(block, varying) for block in layer.blocks.values())
    fields = varying.get("Layer", ())
    options = [str(present) for name, present in layer.options.items() if name in fields]
    more = [f"[{'; '.join(options)}]"] if options else []
    return " ".join(filter(None, [blocks, bits_text(layer, varying), *more]))


def bits_text(layer: Layer, varying: Varying) -> str:
    """The bits of a layer that vary in the space, `w4 s8`, and how they are stored: `w4 group=32`.

    Of two mixers that differ, both: `w4+3 s8`.
    """
    fields = varying.get("Bits", ())
    names = dict.fromkeys([*WIDTHS, *field_names(type(layer.bits))])
    return " ".join(bits_of(layer, name) for name in names if name in fields)


def bits_of(layer: Layer, name: str) -> str:
    """A field of a layer's bits: `w4`, or of two mixers that differ, `w4+3`."""
    own = dict.fromkeys(getattr(layer.bits_at(place), name) for place in layer.blocks)
    return f"{name[0] if name in WIDTHS else f'{name}='}{'+'.join(map(str, own))}"


def around_text(spec: Decoder, varying: Varying) -> list[str]:
    """What varies around the layers: `norm=LayerNorm`, `head=Head(tied=False)`."""
    fields = varying.get(type(spec).__name__, ())
    values = {name: getattr(spec, name) for name in AROUND if name in fields and name != "d_model"}
    return [
        f"{name}={told(value, varying) if is_dataclass(value) else value}" for name, value in values.items()
    ]
