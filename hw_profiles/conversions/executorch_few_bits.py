"""Weights of 8 and 4 bits in a program as the integers that they are, for the kernels of XNNPACK.

    program, count = integer_products(program, few_bits_of(model, KERNELS), prefix="model.")

A product of activations by a whole parameter gets its codes and scales, those of `quantization.packing`, and
activations in 8 bits, rounded for each token when it is computed, from their least to their largest value.
XNNPACK has no integer kernels beside other activations. At 4 bits its kernel takes a scale for every 32
weights of a row, or for a multiple of them; at 8 bits one for the row, so that groups are products of their
own, which are added up. Rows that do not fit the first kernel go to the second, a code in a byte. Groups of
fewer than 32 weights, and what is not multiplied as a matrix, stay in floating point.

The scheme is that of https://docs.pytorch.org/executorch/stable/backends/xnnpack/xnnpack-quantization.html,
in the operators of torchao, which ExecuTorch looks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from foundation.error_text import refused_as
from foundation.errors import ProfileError
from hw_profiles.conversions.few_bits import Few, Integers, integers_of
from search_spaces.network.programs import silent
from search_spaces.quantization.kernels import Factors

KERNELS: frozenset[Factors] = frozenset({(8, 8, "int"), (4, 8, "int")})
"""The bits of weights and activations that XNNPACK has kernels for."""

BLOCK = 32
"""The kernel of 4 bits has scales for multiples of so many weights."""

IN_8, IN_4 = (-128, 127), (-8, 7)
"""Codes of the two kernels."""

VIEWS = frozenset(
    (
        torch.ops.aten.flatten.using_ints,
        torch.ops.aten.view.default,
        torch.ops.aten.reshape.default,
        torch.ops.aten.alias.default,
        torch.ops.aten.select.int,
    )
)
"""What may stand between a parameter and a product by its rows."""


def integer_products(program: ExportedProgram, few: Few, *, prefix: str) -> tuple[ExportedProgram, int]:
    """The same program with integers in products by these parameters, and how many products those are.

    In the program their names begin with `prefix`.

    Raises:
        ProfileError: it cannot be rewritten.
    """
    if not few:
        return program, 0
    with refused_as(ProfileError, "ExecuTorch cannot store weights of few bits"), silent(), torch.no_grad():
        module: fx.GraphModule = program.module(check_guards=False)
        products = dict(_products(module, few, prefix))
        for number, (node, product) in enumerate(products.items()):
            _replace(module, node, f"integers{number}", product)
        module.recompile()
        inputs: Any = program.example_inputs
        return torch.export.export(module, inputs[0]), len(products)


class IntegerProduct(nn.Module):
    """x [..., K] by a matrix [N, K] of integers, in operators that become a kernel of XNNPACK."""

    def __init__(self, integers: Integers, bits: float) -> None:
        super().__init__()
        width, group = integers.width, integers.group
        at_once = bits == 4 and width % BLOCK == 0 and group % BLOCK == 0
        self.block = gcd(group, width) if at_once else group
        self.range = IN_4 if at_once else IN_8
        self.starts = range(0, width, width if at_once else group)
        scales = integers.scales_of(self.block)
        columns = scales.shape[-1] // len(self.starts)
        for number, start in enumerate(self.starts):
            end = start + self.starts.step
            own = scales[:, number * columns : (number + 1) * columns].contiguous()
            self.register_buffer(f"codes{number}", integers.codes[:, start:end].contiguous())
            self.register_buffer(f"scales{number}", own)
            self.register_buffer(f"zeros{number}", torch.zeros(own.shape, dtype=torch.int8))

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The product [..., N], with the bias [N] added."""
        from torchao.quantization.quant_primitives import dequantize_affine

        y = None
        for number, start in enumerate(self.starts):
            codes, scales, zeros = (
                self.get_buffer(f"{what}{number}") for what in ("codes", "scales", "zeros")
            )
            width = codes.shape[-1]
            part = x if len(self.starts) == 1 else x[..., start : start + width]
            weight = dequantize_affine(
                codes, (1, min(self.block, width)), scales, zeros, torch.int8, *self.range
            )
            product = F.linear(_rounded(part), weight, bias if number == 0 else None)
            y = product if y is None else y + product
        assert y is not None
        return y


def _rounded(x: Tensor) -> Tensor:
    """Activations [..., K] in 8 bits, every row from its least to its largest value."""
    from torchao.quantization.quant_primitives import (
        MappingType,
        choose_qparams_affine,
        dequantize_affine,
        quantize_affine,
    )

    rows = (1,) * (x.ndim - 1) + x.shape[-1:]
    scale, zero = choose_qparams_affine(
        x, MappingType.ASYMMETRIC, rows, torch.int8, *IN_8, zero_point_dtype=torch.int8
    )
    codes = quantize_affine(x, rows, scale, zero, torch.int8, *IN_8)
    rounded: Tensor = dequantize_affine(codes, rows, scale, zero, torch.int8, *IN_8)
    return rounded


def _products(module: fx.GraphModule, few: Few, prefix: str) -> Iterator[tuple[fx.Node, IntegerProduct]]:
    """The products by these parameters that have a kernel, and what computes each in integers."""
    for node in module.graph.nodes:
        if node.target != torch.ops.aten.linear.default:
            continue
        name, rows = _rows(module, node.args[1])
        how = few.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if how is None or rows is None:
            continue
        integers = integers_of(rows, attrgetter(name)(module).shape[-1], how.stored)
        if integers is not None and (integers.group >= BLOCK or integers.group == integers.width):
            yield node, IntegerProduct(integers, how.stored.bits)


def _rows(module: fx.GraphModule, node: fx.Node) -> tuple[str, Tensor | None]:
    """The parameter that a product multiplies by, and its rows; nothing where it is something computed."""
    if node.op == "get_attr":
        name = str(node.target)
        return name, attrgetter(name)(module)
    if node.target not in VIEWS:
        return "", None
    name, value = _rows(module, node.args[0])  # type: ignore[arg-type]
    arguments = node.args[1:]
    if value is None or (node.target == torch.ops.aten.select.int and arguments[0] != 0):
        return "", None
    return name, node.target(value, *arguments)


def _replace(module: fx.GraphModule, node: fx.Node, name: str, product: IntegerProduct) -> None:
    """Compute a product in integers, and drop what only it used."""
    module.add_submodule(name, product)
    x, weight, *bias = node.args
    with module.graph.inserting_before(node):
        node.replace_all_uses_with(module.graph.call_module(name, (x, *bias)))
    module.graph.erase_node(node)
    while isinstance(weight, fx.Node) and not weight.users:
        made_of = weight.args[0] if weight.args else None
        if weight.op == "get_attr":
            owner, _, last = str(weight.target).rpartition(".")
            delattr(module.get_submodule(owner), last)
        module.graph.erase_node(weight)
        weight = made_of
