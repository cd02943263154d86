"""A model as it is timed: on the scenario's device, in its dtype, with its kind of weights."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import torch

from search_spaces.network.model import Model
from search_spaces.network.residual import Residual
from search_spaces.quantization.kernels import with_real_kernels
from search_spaces.scenario import Scenario


def placed(model: Model, scenario: Scenario) -> Model:
    """The model on the scenario's device, in its dtype; weights are packed if the scenario's are.

    Emulation is never timed: where weights are plain, activations are not rounded. The given model is not
    changed; where nothing has to change, it is returned itself.
    """
    dtype, device = getattr(torch, scenario.dtype), torch.device(scenario.device)
    present = model.embedding.device
    same_device = present.type == device.type and device.index in (None, present.index)
    if scenario.weights == "packed":
        return with_real_kernels(model if same_device else copy.deepcopy(model).to(device=device), dtype)
    rounding = any(
        layer.bits_at(place).activation < 16 for layer in model.spec.layers for place in layer.blocks
    )
    if model.embedding.dtype == dtype and same_device and not rounding:
        return model
    model = copy.deepcopy(model).to(device=device, dtype=dtype)
    for module in model.modules():
        if isinstance(module, Residual):
            module.activations = nullcontext
    return model
