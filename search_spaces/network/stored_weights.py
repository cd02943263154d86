"""The weights of an exported model: the tensors that a file must hold, and the model from them.

    expected = expected_tensors(model)          # of a model on the meta device
    why = misfit(expected, stored)              # empty where the file holds exactly these
    fill(model, stored)

What a file claims is compared by names, dtypes and shapes before a byte of it is read, and a model takes
memory only when its file holds all of it. Values must be finite.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from foundation.errors import SettingError
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.packing import SCALE_SUFFIX, pack, packed_shapes, unpack
from search_spaces.tensor_files import Stored, TensorFile

MOST_PER_BYTE = 5
"""Weights in a stored byte: ternary ones."""

FREE_STATE, MOST_STATE_PER_BYTE = 2**23, 16
"""Values of a decode state that need no weights beside them, and how many more there may be for each byte."""


def packed_weights(model: Model, *, exact: bool = False) -> dict[str, Tensor]:
    """The tensors of an exported model, by name.

    With `exact`, matrices of 16 bits that bfloat16 does not hold as they are stay in float32.

    Raises:
        SettingError: a weight is not finite, so that nobody could read the model.
    """
    stored: dict[str, Tensor] = {}
    bits = weight_bits(model)
    for name, parameter in model.named_parameters():
        values = parameter.detach().cpu()
        if not values.isfinite().all():
            raise SettingError(f"{name} has values that are not finite: such a model is not written")
        stored_as = bits[name]
        if exact and stored_as is not None and _is_rounded(values, stored_as):
            stored_as = None
        packed = {"": values.float()} if stored_as is None else pack(values, stored_as)
        stored |= {name + suffix: tensor.contiguous() for suffix, tensor in packed.items()}
    return stored


def _is_rounded(values: Tensor, stored_as: WeightFormat) -> bool:
    """Whether a matrix of 16 bits would lose something."""
    return stored_as.bits == 16 and not torch.equal(values.to(torch.bfloat16).to(values.dtype), values)


def expected_tensors(model: Model) -> dict[str, Stored]:
    """The tensors that `packed_weights` makes of such a model, which may be on the meta device."""
    expected: dict[str, Stored] = {}
    bits = weight_bits(model)
    for name, parameter in model.named_parameters():
        shape, stored_as = tuple(parameter.shape), bits[name]
        packed = {"": (torch.float32, shape)} if stored_as is None else packed_shapes(shape, stored_as)
        expected |= {name + suffix: Stored.of(*tensor) for suffix, tensor in packed.items()}
    return expected


def too_few(spec: Decoder, stored: TensorFile) -> str:
    """Why a file is too small for an architecture, from formulas: known before modules are made."""
    params, state = spec.sizes()
    if state > max(FREE_STATE, MOST_STATE_PER_BYTE * stored.size):
        return f"it has a decode state of {state:,} values, and {stored.path.name} has {stored.size:,} bytes"
    if params > MOST_PER_BYTE * stored.size:
        return f"it has {params:,} parameters, and {stored.path.name} has {stored.size:,} bytes"
    filled = {layer for layer in dict.fromkeys(spec.layers) if spec.layer_sizes(layer)[0]}
    modules = len({layer.shared or i for i, layer in enumerate(spec.layers) if layer in filled})
    if modules > len(stored):
        return f"it has {modules:,} layers, and {stored.path.name} has {len(stored):,} tensors"
    return ""


def misfit(expected: Mapping[str, Stored], stored: Mapping[str, Stored]) -> str:
    """Where the tensors of a file are not those of an architecture; empty where they are."""
    for name, wanted in expected.items():
        if name not in stored:
            return f"{name} is missing"
        if stored[name] != wanted and stored[name] != _exactly(name, wanted):
            return f"{name} should be {wanted}, and is {str(stored[name])[:200]}"
    strange = next((name for name in stored if name not in expected), None)
    return f"there is no place for {strange[:200]!r}" if strange is not None else ""


def _exactly(name: str, wanted: Stored) -> Stored:
    """How a tensor may lie in a file as well: a matrix of 16 bits in 32 (see `packed_weights`)."""
    in_16_bits = wanted.dtype == "BF16" and not name.endswith(SCALE_SUFFIX)
    return Stored("F32", wanted.shape) if in_16_bits else wanted


@torch.no_grad()
def fill(model: Model, stored: Mapping[str, Tensor]) -> str:
    """Give a model the weights of a file that fits; why that cannot be, or empty."""
    bits = weight_bits(model)
    for name, parameter in model.named_parameters():
        stored_as, values = bits[name], stored[name]
        if stored_as is not None:
            packed = {"": values}
            if name + SCALE_SUFFIX in stored:
                packed[SCALE_SUFFIX] = stored[name + SCALE_SUFFIX]
            values = unpack(packed, stored_as, parameter.shape[-1], parameter.dtype)
        if not values.isfinite().all():
            return f"{name} has values that are not finite"
        parameter.copy_(values)
    return ""
