"""Weights of 8 and 4 bits in an ONNX file as the integers that they are: MatMulNBits, of ONNX Runtime.

    count = pack_products(path, few_bits_of(model, KERNELS), prefix="model.")

A product of activations by a whole parameter gets its codes and scales, those of `quantization.packing`: what
it computes differs from our emulation by rounding of float32 alone. Where the layer has activations of 8 bits
the kernel rounds them, too, one scale for each block of weights and without exceptions for outliers. What is
not multiplied as a matrix, or in groups that are no multiple of 16, stays in floating point.

The operator: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from foundation.error_text import refused_as
from foundation.errors import ProfileError
from hw_profiles.conversions.few_bits import Few, Integers, integers_of
from search_spaces.network.programs import silent
from search_spaces.quantization.kernels import Factors

KERNELS: frozenset[Factors] = frozenset(product((8, 4), (16, 8), ("int",)))
"""The bits of weights and activations that ONNX Runtime has kernels for."""

DOMAIN = "com.microsoft"
LEAST_BLOCK, MOST_BLOCK = 16, 256
EXACT, IN_8_BITS = 1, 4
"""The kernel's levels of accuracy: activations in float32, or rounded to 8 bits."""


def pack_products(path: Path, few: Few, *, prefix: str) -> int:
    """Replace products by these parameters in a file; how many. In the file their names begin with `prefix`.

    Raises:
        ProfileError: the file cannot be rewritten.
    """
    with refused_as(ProfileError, "ONNX Runtime cannot store weights of few bits"), silent():
        import onnx
        import onnxscript.optimizer

        model, count = onnx.load(str(path)), 0
        graph = model.graph
        makers = {output: node for node in graph.node for output in node.output}
        tensors = {each.name: each for each in graph.initializer}
        shapes = {
            each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in graph.value_info
        }
        for node in graph.node:
            name, turned = _parameter(node, makers)
            how = few.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
            if how is None:
                continue
            values = torch.from_numpy(onnx.numpy_helper.to_array(tensors[name]).copy())
            rows = values.reshape(shapes.get(turned, values.shape))
            integers = integers_of(rows, values.shape[-1], how.stored)
            made = _operands(integers, int(how.stored.bits)) if integers else None
            if made is None:
                continue
            attributes, arrays = made
            level = IN_8_BITS if how.activation == 8 else EXACT
            inputs = [f"{node.output[0]}.{what}" for what in arrays]
            graph.initializer.extend(map(onnx.numpy_helper.from_array, arrays.values(), inputs))
            inputs = [node.input[0], *inputs, *(["", "", node.input[2]] if len(node.input) > 2 else [])]
            node.CopyFrom(
                onnx.helper.make_node(
                    "MatMulNBits", inputs, node.output, domain=DOMAIN, accuracy_level=level, **attributes
                )
            )
            count += 1
        if count:
            model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
        onnx.save(onnxscript.optimizer.optimize(model), str(path))
    return count


def _parameter(node: Any, makers: Mapping[str, Any]) -> tuple[str, str]:
    """What the parameter that a product multiplies by, and its rows, are called in the file, or nothing."""
    rows = _rows(node, makers)
    name = rows
    while (maker := makers.get(name)) is not None and maker.op_type in ("Reshape", "Identity"):
        name = maker.input[0]
    return (name, rows) if maker is None else ("", "")


def _rows(node: Any, makers: Mapping[str, Any]) -> str:
    """The matrix [N, K] by which a product multiplies rows of activations; empty where it is none."""
    if node.op_type == "MatMul":
        turned = makers.get(node.input[1])
        return turned.input[0] if turned is not None and turned.op_type == "Transpose" else ""
    settings = {each.name: each.i or each.f for each in node.attribute}
    scaled = settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0
    turned_alone = settings.get("transB") == 1 and not settings.get("transA")
    return node.input[1] if node.op_type == "Gemm" and turned_alone and not scaled else ""


def _operands(integers: Integers, bits: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Attributes and arrays of the operator for a matrix [N, K]; None where it has no form of it."""
    width, block = integers.width, _block(integers.group, integers.width)
    if block is None:
        return None
    blocks = -(-width // block)
    codes = F.pad(integers.codes, (0, blocks * block - width)).int()
    codes = (codes + 2 ** (bits - 1)).to(torch.uint8).unflatten(-1, (blocks, block))
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    attributes = {"K": width, "N": len(codes), "bits": bits, "block_size": block}
    return attributes, {"codes": codes.numpy(), "scales": integers.scales_of(block).numpy()}


def _block(group: int, width: int) -> int | None:
    """The weights in a block, a power of two: blocks do not cross groups. None where they would be tiny."""
    if group >= width:
        return min(MOST_BLOCK, max(LEAST_BLOCK, 1 << (width - 1).bit_length()))
    block = min(MOST_BLOCK, group & -group)
    return block if block >= LEAST_BLOCK else None
