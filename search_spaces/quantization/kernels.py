"""Real kernels for a finished model: its weights stay packed, and products run on the packed integers.

    model = with_real_kernels(load_model(folder))
    kernels_of(model)               # by parameter: the kernel, or "emulated"
    real_kernels("cuda")            # by bits: what this device has

Training, search and `load_model` emulate narrow weights: floats of the right values, ordinary products. Here
a parameter becomes a `PackedWeight`, a tensor without values of its own that holds integers and scales, and
`F.linear` on it runs one of the kernels of `search_spaces.quantization.products`. PyTorch has no kernels for
6, 3, 2 and 1.58 bits, none for float8 beside other activations, and none for parameters that a block uses
otherwise than by `F.linear`: these stay as they were, and are listed as "emulated". Packed weights are not
trained.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import Tensor

from search_spaces.network.model import Model
from search_spaces.network.weight_formats import bits_of, weight_bits
from search_spaces.quantization.activations import round_activations
from search_spaces.quantization.bits import ACTIVATION_BITS, NUMBERS, WEIGHT_BITS, Bits, WeightFormat
from search_spaces.quantization.packed_weight import PackedWeight, Use
from search_spaces.quantization.packing import pack

EMULATED = "emulated"

Factors: TypeAlias = tuple[float, int, str]
"""Bits of weights and of activations, and what 8 of them are (`Bits.numbers`)."""

KERNELS: dict[Factors, tuple[str, str]] = {
    (16, 16, "int"): ("bfloat16", "bfloat16"),
    (16, 8, "int"): ("bfloat16", "bfloat16"),
    (16, 8, "float"): ("bfloat16", "bfloat16"),
    (8, 16, "int"): ("torch._weight_int8pack_mm", "torch._weight_int8pack_mm"),
    (8, 8, "int"): ("torch._int_mm", "torch._int_mm"),
    (8, 8, "float"): ("torch._scaled_mm", "torch._scaled_mm"),
    (4, 16, "int"): ("torch._weight_int4pack_mm_for_cpu", "torch._weight_int4pack_mm"),
    (4, 8, "int"): ("torch._weight_int4pack_mm_for_cpu", "torch._weight_int4pack_mm"),
}
"""The kernel on a CPU and on CUDA."""


FACTORS: tuple[Factors, ...] = tuple(
    (bits, activation, numbers)
    for bits, activation, numbers in itertools.product(WEIGHT_BITS, ACTIVATION_BITS, NUMBERS)
    if numbers == "int" or (bits in (16, 8) and 8 in (bits, activation))
)
"""All combinations that `Bits` allows."""


def factors_of(bits: Bits) -> Factors:
    """The bits that decide which kernel computes the products of a layer."""
    return bits.weight, bits.activation, bits.numbers


@lru_cache
def _working(device: str) -> dict[Factors, str]:
    """The kernels that compute a small product on this device as they should."""
    kernels = {}
    for (bits, activation, numbers), names in KERNELS.items():
        name = names[device.startswith("cuda")]
        dice = torch.Generator().manual_seed(0)
        weight, x = (torch.randn(size, 64, generator=dice).to(device) for size in (32, 3))
        x = round_activations(x, numbers) if activation == 8 else x
        stored = WeightFormat(bits, 32, numbers)
        try:
            packed = PackedWeight(pack(weight, stored), stored, Use("", activation), weight)
            y = packed.product(x)
        except (RuntimeError, NotImplementedError, AttributeError):
            continue  # this build or this device lacks the kernel: listed as emulated
        if y is not None and (y - x @ packed.values().T).norm() < 0.02 * y.norm():
            kernels[bits, activation, numbers] = name
    return kernels


def real_kernels(device: str | torch.device) -> Mapping[str, str]:
    """The kernel for each width on this device, e.g. `w4/a16` or `w8/a8 float`, or "emulated".

    Every kernel is tried on a small product first, so one is listed if it works here.
    """
    working = _working(str(device))
    return {
        f"w{bits}/a{activation}{'' if numbers == 'int' else f' {numbers}'}": working.get(
            (bits, activation, numbers), EMULATED
        )
        for bits, activation, numbers in FACTORS
    }


def real_factors(device: str | torch.device) -> frozenset[Factors]:
    """The combinations that have a kernel on this device."""
    return frozenset(_working(str(device)))


@torch.no_grad()
def with_real_kernels(model: Model, dtype: torch.dtype = torch.float32) -> Model:
    """A model of the same weights, packed where its device has a kernel for them; for inference.

    `model` holds the values of its bits, as `load_model` and `Subnet.extract` give it. Parameters left in
    floating point get `dtype`, and so do all outputs.
    """
    with torch.device("meta"):
        real = Model(model.spec)
    working, formats = _working(str(model.embedding.device)), weight_bits(model)
    for name, weight in model.named_parameters():
        stored, activation = formats[name], bits_of(model, name).activation
        floating = torch.nn.Parameter(weight.detach().to(dtype), requires_grad=False)
        kept: Tensor = floating
        if stored is not None and factors_of(bits_of(model, name)) in working:
            kept = PackedWeight(pack(weight.float(), stored), stored, Use(name, activation), floating)
        _set_parameter(real, name, kept)
    real.eval()
    _run_once(real)
    for name, weight in list(real.named_parameters()):
        if isinstance(weight, PackedWeight) and weight.use.unpacked:
            _set_parameter(real, name, torch.nn.Parameter(weight.values(), requires_grad=False))
    return real


def kernels_of(model: Model) -> dict[str, str]:
    """The kernel of each parameter of a model that is stored packed, or "emulated"."""
    working, kernels = _working(str(model.embedding.device)), {}
    formats = weight_bits(model)
    for name, weight in model.named_parameters():
        stored = formats[name]
        if stored is not None:
            real = isinstance(weight, PackedWeight) and not weight.use.unpacked
            kernels[name] = working[factors_of(bits_of(model, name))] if real else EMULATED
    return kernels


def _set_parameter(model: Model, name: str, weight: Tensor) -> None:
    owner, _, last = name.rpartition(".")
    held: dict[str, Any] = model.get_submodule(owner)._parameters
    held[last] = weight


def _run_once(model: Model) -> None:
    """Read and decode a few tokens, to see which weights are used otherwise than in products."""
    tokens = torch.arange(3, device=model.embedding.device).remainder(model.spec.vocab)[None].expand(2, -1)
    _, state = model.prefill(tokens)
    model.step(tokens[:, 0], state)
    model(tokens)
