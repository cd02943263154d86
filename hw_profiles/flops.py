"""Counted FLOPs: fvcore walks the operations of a built model, as a check on the analytic costs of blocks.

2 FLOPs per multiply-add of matrix-like products; elementwise work is left out, as in `Cost`. Fused attention
skips the future where it is told that it is causal; under a mask it computes every pair, hidden ones too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model, build
from search_spaces.scenario import Scenario

with warnings.catch_warnings():  # fvcore compiles a loss with a part of torch that is deprecated
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis


def count_flops(spec: Decoder, scenario: Scenario) -> int:
    """FLOPs of reading the scenario's prompt."""
    dice = torch.Generator().manual_seed(0)
    tokens = torch.randint(spec.vocab, (scenario.batch, scenario.prompt), generator=dice)
    with _silence(), torch.no_grad(), _PlainShapes(), _opened_functions():
        analysis = FlopCountAnalysis(_Prefill(build(spec)), (tokens,))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        for name, handle in HANDLES.items():
            analysis.set_op_handle(name, handle)
        return 2 * int(analysis.total())


class _Prefill(nn.Module):
    """A model whose `forward` is the prefill that is counted."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Logits and state of a prompt; what is not returned would not be traced."""
        logits, state = self.model.prefill(tokens)
        halves = (half for layer in state.layers for half in layer.values())
        return (logits, *(tensor for half in halves for tensor in half.values()))


class _PlainShapes(TorchFunctionMode):
    """Sizes stay numbers while fvcore traces: its tracer makes them tensors, and blocks reckon with them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in SIZES:
            return func(*args, **(kwargs or {}))
        tracing = torch._C._get_tracing_state()
        torch._C._set_tracing_state(None)  # type: ignore[attr-defined]  # the stubs know its twin only
        try:
            return func(*args, **(kwargs or {}))
        finally:
            torch._C._set_tracing_state(tracing)  # type: ignore[attr-defined]


SIZES = (vars(torch._C.TensorBase)["shape"].__get__, Tensor.size, Tensor.numel, Tensor.__len__, Tensor.tolist)


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-adds of the scores and of the weighted sum."""
    query, key, value = map(_shape, inputs[:3])
    (tokens, width), seen = query[-2:], key[-2]
    causal = bool(inputs[5].toIValue())
    pairs = tokens * (tokens + 1) // 2 if causal else tokens * seen
    return prod(query[:-2]) * pairs * (width + value[-1])


def _grouped_product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-adds of rows that each meet the matrix of their group."""
    return prod(_shape(inputs[0])) * _shape(inputs[1])[-1]


def _added_product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Multiply-adds of a batch of products that are added to something."""
    return prod(_shape(inputs[1])) * _shape(inputs[2])[-1]


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


HANDLES = {
    "aten::scaled_dot_product_attention": _attention,
    "aten::baddbmm": _added_product,
    "aten::_grouped_mm": _grouped_product,
    "aten::grouped_mm": _grouped_product,
}


class _Forgetful:
    """The context of a hand-written gradient, for a forward pass that nobody differentiates."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


@contextmanager
def _opened_functions() -> Iterator[None]:
    """Run the forward passes of hand-written gradients in the open: a tracer sees one unknown operation."""

    def forward(cls: Any, *args: Any) -> Any:
        return cls.forward(_Forgetful(), *args)

    with patch.object(torch.autograd.Function, "apply", classmethod(forward)):
        yield


@contextmanager
def _silence() -> Iterator[None]:
    """Keep tracing and fvcore from talking about what they skip."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
