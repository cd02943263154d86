"""Shared weights for all architectures of a space: every parameter at its largest shape, filled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foundation.errors import SpaceError
from search_spaces.blocks.base import Block, Mixer
from search_spaces.network.decoder import parameter_shapes
from search_spaces.network.initialization import dice_at
from search_spaces.network.options.base import OptionModule, option_shapes
from search_spaces.network.shell import Shell
from search_spaces.supernet.inventory import buildable, inventory
from search_spaces.supernet.weights import SharedWeights, leading


def allocate(shared: SharedWeights, root: Any, seed: int) -> None:
    """Add every parameter that an architecture of the open decoder `root` may have.

    Raises:
        SpaceError: the root is no decoder, or no block of some place can be built.
    """
    parts = inventory(root)
    d_model, vocab = max(parts.widths), max(parts.vocabularies)
    dice = dice_at(seed, "embedding", shared.device)
    embedding = torch.empty(vocab, d_model, device=shared.device)
    shared.add("embedding", embedding.normal_(std=d_model**-0.5, generator=dice), Block.learning_rate)
    shared.add("norm", torch.ones(d_model, device=shared.device), Block.learning_rate)
    for (place, kind), blocks in parts.variants.items():
        variants = [variant for variant in blocks if buildable(*variant)]
        if not variants:
            raise SpaceError(f"{place}:{kind}: no variant of this block can be built")
        _allocate_kind(shared, f"{place}:{kind}", place, variants, seed)
    shell = Shell(vocab, d_model)
    for path, options in parts.options.items():
        forms = [_Form(option_shapes(option, shell), partial(option.build, shell)) for option in options]
        for name, values in _largest(shared, forms, seed, path).items():
            shared.add(f"{path}.{name}", values, Block.learning_rate)


def _allocate_kind(
    shared: SharedWeights, prefix: str, place: str, variants: list[tuple[Block, int]], seed: int
) -> None:
    """Parameters of one kind of block at one place."""
    forms = [_Form(parameter_shapes(block, d), partial(block.build, d)) for block, d in variants]
    rate, widest = variants[0][0].learning_rate, max(d_model for _, d_model in variants)
    shared.add(f"{prefix}.norm", torch.ones(widest, device=shared.device), rate)
    for name, values in _largest(shared, forms, seed, place).items():
        shared.add(f"{prefix}.mixer.{name}", values, rate)


class _Form(NamedTuple):
    """One form that a module may have: the shapes of its parameters, and what builds it."""

    shapes: Mapping[str, tuple[int, ...]]
    build: Callable[[], Mixer | OptionModule | None]


def _largest(shared: SharedWeights, forms: Sequence[_Form], seed: int, path: str) -> dict[str, Tensor]:
    """Every parameter at its largest shape, filled from the largest forms, each from the same generator."""
    shapes: dict[str, tuple[int, ...]] = {}
    for form in forms:
        for name, shape in form.shapes.items():
            shapes[name] = tuple(map(max, shape, shapes.get(name, shape)))
    large = {name: torch.zeros(shape, device=shared.device) for name, shape in shapes.items()}
    for form in _covering(forms):
        with torch.device(shared.device), torch.no_grad():
            module = form.build()
            if module is None:
                continue
            module.reset_parameters(dice_at(seed, path, shared.device))
            for name, values in module.named_parameters():
                large[name][leading(values.shape)] = values
    return large


def _covering(forms: Sequence[_Form]) -> list[_Form]:
    """The forms that no other one covers in every axis of every parameter, small ones first."""
    kept: list[_Form] = []
    for form in sorted(forms, key=lambda form: -sum(map(prod, form.shapes.values()))):
        if not any(_covers(larger, form) for larger in kept):
            kept.append(form)
    return kept[::-1]


def _covers(larger: _Form, smaller: _Form) -> bool:
    large = larger.shapes
    return all(
        name in large and all(map(int.__ge__, large[name], shape)) for name, shape in smaller.shapes.items()
    )
