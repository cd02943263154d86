"""Analytic costs of networks and their blocks: parameters, FLOPs, stored bytes, decode state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from search_spaces.blocks.base import Block, Cost
from search_spaces.quantization.bits import (
    EXACT_BYTES,
    WeightFormat,
    state_bytes,
    takes_few_bits,
    weight_bytes,
)


@dataclass(frozen=True)
class NetworkCost:
    """The analytic cost of a whole network, under one scenario.

    `weight_bytes` is what an exported model stores; `state_bytes` is the decode state after the scenario's
    last token, for its whole batch; `state_bytes_per_token` is how much of it one further token adds.
    """

    params: int
    prefill_flops: int
    decode_flops: int
    weight_bytes: int
    state_bytes: int
    state_bytes_per_token: int


def decoded_by(share: float, cost: Cost) -> Cost:
    """A cost where this share of the tokens computes a decode step."""
    return cost if share == 1.0 else replace(cost, decode_flops=round(share * cost.decode_flops))


@lru_cache(maxsize=4096)
def parameter_shapes(block: Block, d_model: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter of a block, found by building it on the meta device."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in block.build(d_model).named_parameters()}


@lru_cache(maxsize=4096)
def rounded_parameters(block: Block, d_model: int) -> frozenset[str]:
    """Those that are stored at the layer's bits: matrices, unless their rows are too short.

    What stays exact (`Block.stays_exact`: norms, biases, decays) has 32 bits, however many axes it has.
    """
    shapes = parameter_shapes(block, d_model)
    return frozenset(name for name, shape in shapes.items() if takes_few_bits(block, name, shape))


@lru_cache(maxsize=16384)
def block_weight_bytes(block: Block, d_model: int, stored: WeightFormat) -> int:
    """Stored bytes of a block's parameters."""
    rounded = rounded_parameters(block, d_model)
    return sum(
        weight_bytes(shape, stored) if name in rounded else EXACT_BYTES * torch.Size(shape).numel()
        for name, shape in parameter_shapes(block, d_model).items()
    )


@lru_cache(maxsize=16384)
def block_state_bytes(block: Block, d_model: int, bits: int, context: int) -> int:
    """Bytes of a block's decode state for a batch of one."""
    return sum(state_bytes(shape, bits, context) for shape in block.state(d_model).values())
