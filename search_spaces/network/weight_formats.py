"""How each parameter of a model is stored: what is in a block at its layer's bits, all else at 16 or 32."""

from __future__ import annotations

from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.network.decoder import PLACES
from search_spaces.network.model import Model
from search_spaces.network.soft_prompt import NAME as SOFT_PROMPT
from search_spaces.quantization.bits import Bits, WeightFormat, takes_few_bits


def bits_of(model: Model, name: str) -> Bits:
    """The bits of a parameter and of what it is multiplied with."""
    parts = name.split(".")
    in_block = parts[0] == "layers" and parts[2] in PLACES
    if in_block:
        return model.spec.layers[int(parts[1])].bits_at(parts[2])
    return model.shell.bits_of(name) if len(parts) == 1 else Bits()


def weight_format(model: Model, name: str, parameter: Tensor) -> WeightFormat | None:
    """How a parameter of a model is stored; None for one that stays in 32 bits."""
    if name.startswith(f"{SOFT_PROMPT}."):
        return None
    rounded = takes_few_bits(*_within_block(model, name), tuple(parameter.shape))
    return bits_of(model, name).stored if rounded else None


def _within_block(model: Model, name: str) -> tuple[Block | None, str]:
    """The block that a parameter is of, and its name within it; none for one of no block."""
    parts = name.split(".", 4)
    if len(parts) < 5 or parts[0] != "layers" or parts[2] not in PLACES or parts[3] != "mixer":
        return None, name
    return model.spec.layers[int(parts[1])].blocks[parts[2]], parts[4]


def weight_bits(model: Model) -> dict[str, WeightFormat | None]:
    """How each parameter of a model is stored; None for those that stay in 32 bits."""
    return {name: weight_format(model, name, parameter) for name, parameter in model.named_parameters()}
