"""The page about all blocks, made from the registry: equations, papers, laws of cost and state, paths.

`nas blocks --page > docs/blocks.md` writes it; a test holds that the page is what this makes.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType

from search_spaces.blocks.base import Block, StateShape, blocks
from search_spaces.language.choices import field_names
from search_spaces.language.printing import brief
from search_spaces.quantization.bits import state_bytes
from search_spaces.references import references
from search_spaces.scenario import Scenario

WIDTH = 256
CONTEXTS = (1024, 16384)

HEAD = """# Blocks

Made by `nas blocks --page`; do not edit. Every block is one file in `search_spaces/blocks`, with its
equation, its cost on paper and its decode state; the numerical work is done in `search_spaces/ops`, where
each op has a plain form (its equation) and a fast one that test each other. Figures are for the block's
defaults at d_model {width}, batch 1; FLOPs count two per multiply-add of matrix-like products. The state is
counted at 16 bits (running sums at 32).

Weights are stored at 16, 8, 6, 4, 3, 2 or 1.58 bits, and run by the kernels that [bits.md](bits.md) names;
everything else is plain PyTorch, the same on every device: eager, compiled or exported.
"""


def blocks_page() -> str:
    """The whole page as Markdown."""
    kinds = sorted(blocks.values(), key=lambda kind: (kind.mixes != "sequence", kind.__name__))
    rows = [_row(kind()) for kind in kinds]
    table = [
        "| block | mixes | params | prefill FLOPs a token, 1k and 16k | decode FLOPs, 1k and 16k"
        " | state bytes, 1k and 16k |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    sections = [_section(kind) for kind in kinds]
    return "\n".join([HEAD.format(width=WIDTH), *table, "", *sections]).rstrip() + "\n"


def _row(spec: Block) -> str:
    name = type(spec).__name__
    near, far = (spec.cost(WIDTH, Scenario(prompt=context, new_tokens=1)) for context in CONTEXTS)
    prefill = " and ".join(
        f"{cost.prefill_flops // context:,}" for cost, context in zip((near, far), CONTEXTS, strict=True)
    )
    decode = f"{near.decode_flops:,} and {far.decode_flops:,}"
    held = [_held(spec, context) for context in CONTEXTS]
    return (
        f"| [{name}](#{name.lower()}) | {spec.mixes} | {near.params:,} | {prefill} | {decode}"
        f" | {held[0]:,} and {held[1]:,} |"
    )


def _section(kind: type[Block]) -> str:
    module = sys.modules[kind.__module__]
    spec = kind()
    lines = [f"## {kind.__name__}", "", inspect.cleandoc(module.__doc__ or ""), ""]
    lines += [f"Fields and defaults: `{_fields(spec)}`.", ""]
    lines += [f"Cost: {inspect.cleandoc(kind.cost.__doc__ or '').replace(chr(10), ' ')}", ""]
    lines += [f"State: {_state_law(spec)}", ""]
    paths = [f"`{op.__name__.rpartition('.')[2]}` ({_first(op)})" for op in _ops(module)]
    lines += [f"Computed by: {'; '.join(paths) or 'products of matrices'}.", ""]
    if kind.__name__ in references:
        lines += [f"Checked against: {references[kind.__name__].source}.", ""]
    return "\n".join(lines)


def _fields(spec: Block) -> str:
    shown = ", ".join(f"{name}={brief(getattr(spec, name))}" for name in field_names(type(spec)))
    return f"{type(spec).__name__}({shown})"


def _state_law(spec: Block) -> str:
    shapes = spec.state(WIDTH)
    if not shapes:
        return "none."
    return "; ".join(f"`{name}` {_shape_law(shape)}" for name, shape in shapes.items()) + "."


def _shape_law(shape: StateShape) -> str:
    sizes = " x ".join(map(str, shape.shape))
    exact = ", in float32 at least" if shape.exact else ""
    if not shape.per_token:
        return f"{sizes}{exact}, whatever the context"
    limit = f", of the last {shape.limit:,} tokens" if shape.limit is not None else ""
    return f"{sizes}{exact} for each token{limit}"


def _held(spec: Block, context: int) -> int:
    return sum(state_bytes(shape, 16, context) for shape in spec.state(WIDTH).values())


def _ops(module: ModuleType) -> list[ModuleType]:
    """The ops that a block's module takes functions from."""
    names = {
        found.__module__
        for found in vars(module).values()
        # PyTorch's compiler leaves functions behind that have no module
        if inspect.isfunction(found) and (found.__module__ or "").startswith("search_spaces.ops.")
    }
    return [importlib.import_module(name) for name in sorted(names - {"search_spaces.ops.linear"})]


def _first(module: ModuleType) -> str:
    """The first sentence of a module's docstring."""
    text = inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    return text.rstrip(".")
