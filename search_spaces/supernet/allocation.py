"""Shared weights for all architectures of a space: every parameter at its largest shape, filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from foundation.errors import SpaceError
from search_spaces.blocks.base import Block
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.initialization import dice_at
from search_spaces.network.norms.base import all_vectors
from search_spaces.network.options.base import LayerOption, option_shapes
from search_spaces.network.parameter_roles import block_roles, option_roles
from search_spaces.network.scaling import Role, scaled_rate
from search_spaces.network.shell import EMBEDDING, Shell, ShellModule
from search_spaces.network.sublayers import cannot_build
from search_spaces.supernet.inventory import Inventory, inventory
from search_spaces.supernet.weights import SharedWeights, leading


def allocate(shared: SharedWeights, root: Any, seed: int) -> None:
    """Add every parameter that an architecture of the open decoder `root` may have.

    Raises:
        SpaceError: the root is no decoder, or no block of some place can be built.
    """
    parts = inventory(root)
    shells = _at_largest(parts)
    _add(shared, "", _Forms(list(map(_shell_form, shells)), EMBEDDING), seed)
    for (place, kind), blocks in parts.variants.items():
        variants = [variant for variant in blocks if not cannot_build(*variant)]
        if not variants:
            raise SpaceError(f"{place}:{kind}: no variant of this block can be built")
        rate, widest = variants[0][0].learning_rate, max(d_model for _, d_model in variants)
        shared.own_rates[kind] = rate
        for name, start in all_vectors(parts.norms[place, kind]).items():
            shared.add(f"{place}:{kind}.{name}", torch.full((widest,), start, device=shared.device), rate)
        forms = [_block_form(block, d_model) for block, d_model in variants]
        _add(shared, f"{place}:{kind}.mixer.", _Forms(forms, place, rate), seed)
    for path, options in parts.options.items():
        forms = [_option_form(option, shell) for option, shell in product(options, shells)]
        _add(shared, f"{path}.", _Forms(forms, path), seed)


def _at_largest(parts: Inventory) -> list[Shell]:
    """Every shell with the largest vocabulary, at the largest width."""
    vocab, widest = max(shell.vocab for shell in parts.shells), max(parts.widths)
    return list(dict.fromkeys(replace(shell, vocab=vocab, d_model=widest) for shell in parts.shells))


class _Form(NamedTuple):
    """One form that a module may have: shapes and roles of its parameters, and what builds and fills it."""

    shapes: Mapping[str, tuple[int, ...]]
    roles: Mapping[str, Role]
    build: Callable[[torch.Generator], nn.Module]


def _shell_form(shell: Shell) -> _Form:
    def build(dice: torch.Generator) -> nn.Module:
        module = ShellModule(shell)
        module.reset_shell(dice)
        return module

    return _Form(shell.shapes, shell.roles, build)


def _block_form(block: Block, d_model: int) -> _Form:
    def build(dice: torch.Generator) -> nn.Module:
        module = block.build(d_model)
        module.reset_parameters(dice)
        return module

    return _Form(parameter_shapes(block, d_model), block_roles(block, d_model), build)


def _option_form(option: LayerOption, shell: Shell) -> _Form:
    def build(dice: torch.Generator) -> nn.Module:
        module = option.build(shell)
        if module is None:
            return nn.Module()
        module.reset_parameters(dice)
        return module

    return _Form(option_shapes(option, shell), option_roles(option, shell), build)


class _Forms(NamedTuple):
    """All forms of what stands at a place, where their random numbers come from, and their rate."""

    forms: Sequence[_Form]
    path: str
    rate: float = Block.learning_rate


def _add(shared: SharedWeights, prefix: str, there: _Forms, seed: int) -> None:
    """Add the parameters of these forms.

    A weight that serves several widths gets the rate between those of the smallest and of the largest one.
    """
    for name, values in _largest(shared, there.forms, seed, there.path).items():
        roles = [form.roles[name] for form in there.forms if name in form.roles]
        rates = [scaled_rate(there.rate, role) for role in roles]
        widest = max(roles, key=lambda role: role.fan_in)
        shared.add(f"{prefix}{name}", values, math.sqrt(min(rates) * max(rates)), widest)


def _largest(shared: SharedWeights, forms: Sequence[_Form], seed: int, path: str) -> dict[str, Tensor]:
    """Every parameter at its largest shape, filled from the largest forms, each from the same generator."""
    shapes: dict[str, tuple[int, ...]] = {}
    for form in forms:
        for name, shape in form.shapes.items():
            shapes[name] = tuple(map(max, shape, shapes.get(name, shape)))
    large = {name: torch.zeros(shape, device=shared.device) for name, shape in shapes.items()}
    for form in _covering(forms):
        with torch.device(shared.device), torch.no_grad():
            module = form.build(dice_at(seed, path, shared.device))
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
