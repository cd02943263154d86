"""A network in a line: `d48: EMA(expansion=2)+SwiGLU, Attention+SwiGLU`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from search_spaces.language.printing import brief
from search_spaces.language.varying import NOTHING, Varying, told
from search_spaces.network.decoder import Layer, has_plain_layers

TIMES = "\N{MULTIPLICATION SIGN}"


def network_line(spec: Any, varying: Varying = NOTHING) -> str:
    """The layers of a network in a line, runs of equal ones counted; of anything else, what it is made of.

    Of blocks and bits, the fields that vary in the space are told.
    """
    if not has_plain_layers(spec):
        return " ".join(brief(spec).split())
    return f"d{spec.d_model}: {', '.join(counted_runs(_layer(layer, varying) for layer in spec.layers))}"


def counted_runs(layers: Iterable[str]) -> list[str]:
    """Layers in order, equal ones that follow each other as one with their number."""
    runs = [(layer, len(list(run))) for layer, run in groupby(layers)]
    return [layer if times == 1 else f"{times} {TIMES} {layer}" for layer, times in runs]


def _layer(layer: Layer, varying: Varying) -> str:
    blocks = "+".join(told(block, varying) for block in layer.blocks.values())
    bits = bits_text(layer, varying)
    return f"{blocks} {bits}" if bits else blocks


def bits_text(layer: Layer, varying: Varying) -> str:
    """The bits of a layer that vary in the space: `w4 s8`, and of two mixers that differ `w4+3 s8`."""
    fields = varying.get("Bits", ())
    return " ".join(bits_of(layer, name) for name in ("weight", "state") if name in fields)


def bits_of(layer: Layer, name: str) -> str:
    """The bits of a layer for its `weight` or `state`: `w4`, or of two mixers that differ, `w4+3`."""
    own = dict.fromkeys(getattr(layer.bits_at(place), name) for place in layer.blocks)
    return f"{name[0]}{'+'.join(map(str, own))}"
