"""Recurrences against further implementations: the layer of xLSTM, and operations with their states.

Where the package fla-core is installed, operations are compared with its plain formulations too, which are
loaded as files because the package itself needs a GPU.
"""

from __future__ import annotations

import importlib.util
import math
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.mlstm import MLSTM
from search_spaces.ops.decay_attention import decay_attention
from search_spaces.ops.delta_rule import delta_rule
from search_spaces.ops.gated_attention import gated_attention
from search_spaces.ops.mlstm import Cell, mlstm
from search_spaces.parity import TOLERANCE
from search_spaces.references import Function, put

os.environ["HF_HUB_OFFLINE"] = "1"

WIDTH, COUNT = 24, 70


def distance(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape
    return float((actual - expected).detach().abs().max() / expected.detach().abs().max())


def xlstm_layer(spec: MLSTM, weights: dict[str, Tensor], d_model: int) -> Function:
    pytest.importorskip("transformers")
    from transformers.models.xlstm import modeling_xlstm

    if modeling_xlstm.external_xlstm:
        pytest.skip("transformers would hand over to the package xlstm")
    config = modeling_xlstm.xLSTMConfig(
        hidden_size=d_model,
        num_heads=spec.num_heads,
        qk_dim_factor=spec.num_heads * spec.state_dim / d_model,
        v_dim_factor=spec.num_heads * spec.head_dim / d_model,
        num_hidden_layers=1,
        mode="train",
        chunkwise_kernel="chunkwise--native_autograd",
        autocast_kernel_dtype="float32",
        chunk_size=COUNT,
        return_last_states=True,  # else the module cannot read what its own backend returns
        eps=0.0,
    )
    module = modeling_xlstm.xLSTMLayer(config).train()
    gates, bias = weights["gates"], weights["gate_bias"]
    names = {"q": "wq", "k": "wk", "v": "wv", "ogate_preact": "wz", "out_proj": "wo"}
    put(
        module,
        **{f"{theirs}__weight": weights[ours] for theirs, ours in names.items()},
        igate_preact__weight=gates[0],
        igate_preact__bias=bias[0],
        fgate_preact__weight=gates[1],
        fgate_preact__bias=bias[1],
        multihead_norm__weight=weights["norm"],
    )
    return lambda x: module(x)[0]


@pytest.mark.parametrize("num_heads", [1, 2, 3, 4])
def test_mlstm_is_the_layer_of_xlstm(num_heads: int) -> None:
    # its configuration wants widths of heads that are shares of d_model
    spec = MLSTM(num_heads=num_heads, head_dim=6, state_dim=6)
    module, dice = spec.build(WIDTH), torch.Generator().manual_seed(num_heads)
    with torch.no_grad():
        module.reset_parameters(dice)
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    reference = xlstm_layer(spec, dict(module.named_parameters()), WIDTH)
    x = torch.randn(2, COUNT, WIDTH, generator=dice).requires_grad_()
    actual, expected = module(x).y, reference(x)
    mix = torch.randn(expected.shape, generator=dice)
    slopes = [torch.autograd.grad((y * mix).sum(), x)[0] for y in (actual, expected)]
    assert max(distance(actual, expected), distance(*slopes)) < TOLERANCE


def test_the_mlstm_memory_is_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers.models.xlstm import modeling_xlstm

    if modeling_xlstm.external_xlstm:
        pytest.skip("transformers would hand over to the package xlstm")
    q, k, v, w, f, memory = draws((5, 5, 7, None, None, None), COUNT)
    cell = Cell(memory, memory[..., 0], w[:, 0])
    y, last = mlstm(q * 5**-0.5, k, v, 3 * w, F.logsigmoid(f + 2), cell=cell)
    expected, expected_last = modeling_xlstm.mlstm_recurrent_sequence_native(
        *(part.transpose(1, 2) for part in (q, k, v)),
        (3 * w).transpose(1, 2),
        (f + 2).transpose(1, 2),
        *(cell.memory, cell.normaliser, cell.peak[..., None]),
        return_last_states=True,
        eps=0.0,
    )
    assert distance(y, expected.transpose(1, 2)) < TOLERANCE
    for actual, part in zip(last, expected_last, strict=True):
        assert distance(actual, part.reshape(actual.shape)) < TOLERANCE


def fla(path: str) -> ModuleType:
    """A file of the installed fla-core, without its package."""
    package = importlib.util.find_spec("fla")
    if package is None or not package.submodule_search_locations:
        pytest.skip("fla-core is not installed")
    for folder in package.submodule_search_locations:
        if (Path(folder) / path).exists():
            spec = importlib.util.spec_from_file_location(Path(path).stem, Path(folder) / path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise FileNotFoundError(f"this version of fla-core has no {path}")


def draws(widths: tuple[int | None, ...], count: int) -> list[Tensor]:
    """Normal values [2, count, 3, width] or [2, count, 3]; the last is a state [2, 3, 5, 7]."""
    dice = torch.Generator().manual_seed(0)
    shapes = [(2, count, 3, *([width] if width else [])) for width in widths[:-1]]
    return [torch.randn(shape, generator=dice) for shape in (*shapes, (2, 3, 5, 7))]


class TestFla:
    def test_retention(self) -> None:
        expected = fla("ops/retention/naive.py").naive_retention
        q, k, v, _ = draws((5, 5, 7, None), COUNT)
        g = torch.log1p(-(2.0 ** (-5 - torch.arange(3.0)))).expand(2, COUNT, 3)
        y, _ = decay_attention(q * 5**-0.5, k, v, g)
        assert (
            distance(y, expected(*(part.transpose(1, 2) for part in (q, k, v))).transpose(1, 2)) < TOLERANCE
        )

    def test_rwkv6(self) -> None:
        expected = fla("ops/rwkv6/recurrent_naive.py").naive_recurrent_rwkv6
        q, k, v, g, state = draws((5, 5, 7, 5, None), COUNT)
        bonus, g = q[0, 0], -g.exp()
        y, last = gated_attention(q, k, v, g, state, bonus=bonus, final=True)
        parts = (part.transpose(1, 2) for part in (q, k, v, g))
        o, memory = expected(*parts, bonus, scale=1.0, initial_state=state, output_final_state=True)
        assert distance(y, o.transpose(1, 2)) < TOLERANCE
        assert distance(last, memory) < TOLERANCE

    def test_delta_rule(self) -> None:
        pytest.importorskip("einops")
        expected = fla("ops/delta_rule/naive.py").delta_rule_recurrence
        q, k, v, b, state = draws((5, 5, 7, None, None), COUNT)
        k, b = F.normalize(k, dim=-1), b.sigmoid()
        y, last = delta_rule(q * 5**-0.5, k, v, b, state=state, final=True)
        o, memory = expected(*(part.transpose(1, 2) for part in (q, k, v, b)), initial_state=state)
        assert distance(y, o.transpose(1, 2)) < TOLERANCE
        assert distance(last, memory) < TOLERANCE

    def test_gated_delta_rule(self) -> None:
        pytest.importorskip("einops")
        expected = fla("ops/gated_delta_rule/naive.py").naive_recurrent_gated_delta_rule
        q, k, v, b, g, state = draws((5, 5, 7, None, None, None), COUNT)
        k, b, g = F.normalize(k, dim=-1), b.sigmoid(), -g.exp()
        y, last = delta_rule(q * 5**-0.5, k, v, b, g, state=state, final=True)
        o, memory = expected(q, k, v, b, g, initial_state=state, output_final_state=True)
        assert distance(y, o) < TOLERANCE
        assert distance(last, memory) < TOLERANCE


def test_the_delta_rule_is_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers.models.qwen3_next.modeling_qwen3_next import (
        torch_chunk_gated_delta_rule,
        torch_recurrent_gated_delta_rule,
    )

    q, k, v, b, g, state = draws((5, 5, 7, None, None, None), COUNT)
    k, b, g = F.normalize(k, dim=-1), b.sigmoid(), -g.exp()
    y, last = delta_rule(q / math.sqrt(5), k, v, b, g, state=state, final=True)
    for reference in (torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule):
        o, memory = reference(q, k, v, g=g, beta=b, initial_state=state.clone(), output_final_state=True)
        assert distance(y, o) < TOLERANCE
        assert distance(last, memory) < TOLERANCE
