"""What libraries make of the same matrices, given the same calibration text.

Each function takes a matrix [N, K] and the sum of x x' [K, K] over what it multiplies, and gives the matrix
that a library would put in its place: to nearest by torchao, GPTQ, Wanda and SparseGPT by llmcompressor,
magnitude by PyTorch. `by_library` goes through a network as our modifiers do, layer by
layer, each for the inputs that it gets from layers that are done.

llmcompressor's own driver takes networks of transformers only; these are its functions for one matrix, which
do not depend on what is around it. GPTQ has the scales of its observer: half a range to the largest value.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from evaluators.compression.calibration import LayerByLayer, tiled
from nas.modifiers.base import layer_matrices
from search_spaces.network.model import Model

GROUP, DAMP, HALF = 64, 0.01, 0.5

ORDER = "static"
"""In which GPTQ of llmcompressor rounds columns: by its default those of large inputs first."""

Change: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""A matrix [N, K] and the moments [K, K] of its inputs, and the matrix that a library makes of it."""


def nearest(bits: int) -> Change:
    """torchao, weights in groups."""
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

    def change(weight: Tensor, moment: Tensor) -> Tensor:
        group = min(GROUP, weight.shape[1])
        layer = _linear(weight)
        config = IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerGroup(group))
        quantize_(layer, config)
        held: Any = layer.weight
        return torch.as_tensor(held.dequantize().detach())

    return change


def gptq(bits: int) -> Change:
    """llmcompressor."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.utils import calculate_qparams
    from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight

    def change(weight: Tensor, moment: Tensor) -> Tensor:
        group = min(GROUP, weight.shape[1])
        args = QuantizationArgs(
            num_bits=bits, symmetric=True, strategy="group", group_size=group, actorder=ORDER
        )
        grouped = weight.unflatten(-1, (-1, group))
        scale, zero = calculate_qparams(grouped.amin(-1), grouped.amax(-1), args)
        moment = moment / moment.diagonal().mean()
        rounded, _, alone = quantize_weight(
            weight[None].clone(), moment[None].float(), scale[None], zero[None], None, args, 128, DAMP
        )
        assert not alone.any(), "its moments could not be inverted"
        return torch.as_tensor(rounded[0])

    return change


def magnitude(neighbours: tuple[int, int] | None) -> Change:
    """PyTorch's pruning, and its sparsifier for N:M."""
    from torch.nn.utils import prune

    def change(weight: Tensor, moment: Tensor) -> Tensor:
        if neighbours is None:
            return prune.l1_unstructured(_linear(weight), "weight", amount=HALF).weight.detach()
        from torch.ao.pruning.sparsifier.weight_norm_sparsifier import WeightNormSparsifier

        few, many = neighbours
        sparsifier = WeightNormSparsifier(
            sparsity_level=1.0, sparse_block_shape=(1, many), zeros_per_block=many - few
        )
        network = nn.ModuleList([_linear(weight)])
        sparsifier.prepare(network, [{"tensor_fqn": "0.weight"}])
        sparsifier.step()
        sparsifier.squash_mask()
        return torch.as_tensor(network[0].weight).detach()

    return change


def wanda(neighbours: tuple[int, int] | None) -> Change:
    """llmcompressor."""
    from llmcompressor.modifiers.pruning.wanda.wanda_sparsify import sparsify_weight

    def change(weight: Tensor, moment: Tensor) -> Tensor:
        layer, (zeros, many) = _linear(weight), _zeros(neighbours)
        squares = moment.diagonal().float()
        return torch.as_tensor(sparsify_weight(layer, {layer: squares}, HALF, zeros, many)).detach()

    return change


def sparse_gpt(neighbours: tuple[int, int] | None) -> Change:
    """llmcompressor, in blocks of 128 columns."""
    from llmcompressor.modifiers.pruning.sparsegpt.sgpt_sparsify import sparsify_weight

    def change(weight: Tensor, moment: Tensor) -> Tensor:
        layer, (zeros, many) = _linear(weight), _zeros(neighbours)
        moment = (moment / moment.diagonal().mean()).float()
        with torch.no_grad():
            _, sparse = sparsify_weight(layer, {layer: moment}, HALF, zeros, many, 128, DAMP, False)
        return torch.as_tensor(sparse)

    return change


LIBRARIES: dict[str, tuple[str, Callable[[], Change]]] = {
    **{f"quantize,bits={b},method=nearest": ("torchao", partial(nearest, b)) for b in (4, 3, 2)},
    **{f"quantize,bits={b},method=gptq": ("llmcompressor", partial(gptq, b)) for b in (4, 3, 2)},
    **{
        f"prune,{pattern}method={method}": (library, partial(function, neighbours))
        for pattern, neighbours in (("", None), ("pattern=2:4,", (2, 4)))
        for method, library, function in (
            ("magnitude", "torch", magnitude),
            ("wanda", "llmcompressor", wanda),
            ("sparsegpt", "llmcompressor", sparse_gpt),
        )
    },
}
"""The library of each modifier, as it is written."""


@torch.no_grad()
def by_library(model: Model, windows: Tensor, change: Change) -> Model:
    """A network whose matrices a library has changed, layer by layer."""
    model = deepcopy(model).eval()
    reading, names = LayerByLayer(model, windows), layer_matrices(model)
    for index in range(len(model.spec.layers)):
        own = [name for name in names if name.split(".")[1] == str(index)]
        moments = reading.moments(index, own)
        for name in own:
            weight, parts = model.get_parameter(name), moments.get(name, {})
            assert tiled(weight, parts), f"{name} is in no product that can be seen"
            for part, moment in parts.items():
                matrix = part.of(weight)
                with torch.enable_grad():
                    changed = change(matrix.clone(), moment)
                matrix.copy_(changed)
    return model


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return layer


def _zeros(neighbours: tuple[int, int] | None) -> tuple[int, int]:
    """How many of how many are zero, as llmcompressor has it: none of none anywhere."""
    return (0, 0) if neighbours is None else (neighbours[1] - neighbours[0], neighbours[1])
