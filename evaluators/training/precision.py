"""The precisions of a recipe: what the forward and the backward pass compute in.

    float32     as it says
    tf32        products of float32 on a GPU keep 10 bits of their factors (TensorFloat-32); sums are float32.
                On a CPU the same as float32
    auto        what suits the device: bfloat16 on a GPU, float32 elsewhere
    bfloat16    products in bfloat16 (`torch.autocast`); norms, softmax, decays, states and losses in float32

What is recorded of a training names the precision itself (`Recipe.on`). Weights, gradients and the state of
the optimizer are float32 in all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

AUTO, FLOAT32, TF32, BFLOAT16 = "auto", "float32", "tf32", "bfloat16"
PRECISIONS = (AUTO, FLOAT32, TF32, BFLOAT16)


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Forward and backward passes with products of float32 as this precision wants them."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, precision == TF32
    try:
        yield
    finally:
        products.allow_tf32 = before


def autocast(precision: str, device: torch.device | str) -> AbstractContextManager[Any]:
    """The context of a forward pass in this precision."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == BFLOAT16)
