"""Recurrences and linear attention against independent implementations, whole and at leading slices.

As in `test_parity_transformers`: a reference is built at the size of the slice and given the sliced weights.
It is a module of transformers where one exists, and otherwise the equation of the paper, head by head and
token by token, without chunks or stabilisers, in float64. Outputs and gradients of the inputs must agree to
1e-5 of the largest value, in float32. Where the package fla-core is installed, operations are compared with
its plain formulations too, which are loaded as files because the package itself needs a GPU.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from search_spaces.blocks.base import Block
from search_spaces.blocks.delta_net import DeltaNet
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.blocks.slstm import SLSTM
from search_spaces.ops.decay_attention import decay_attention
from search_spaces.ops.delta_rule import delta_rule
from search_spaces.ops.gated_attention import gated_attention
from search_spaces.ops.mlstm import Cell, mlstm

os.environ["HF_HUB_OFFLINE"] = "1"

WIDTH, COUNT = 24, 70
TOLERANCE = 1e-5
Weights = dict[str, Tensor]
Reference = Callable[[Tensor], Tensor]


def large_weights(spec: Block, d_model: int, seed: int) -> Weights:
    module, dice = spec.build(d_model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.reset_parameters(dice)
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def deviation(
    large: Block, small: Block, d_model: int, reference_of: Callable[[Block, Weights, int], Reference]
) -> tuple[float, float]:
    """How far `small` at d_model, on slices of the weights of `large` at WIDTH, is from the reference."""
    weights = large_weights(large, WIDTH, seed=0)
    with torch.device("meta"):
        module = small.build(d_model)
    slices = {
        name: weights[name][tuple(slice(size) for size in parameter.shape)]
        for name, parameter in module.named_parameters()
    }
    reference = reference_of(small, {name: part.contiguous() for name, part in slices.items()}, d_model)
    x = torch.randn(2, COUNT, d_model, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = functional_call(module, slices, (x,), tie_weights=False).y
    wanted = reference(x)
    mix = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(2))
    slopes = [torch.autograd.grad((y * mix).sum(), x)[0] for y in (found, wanted)]
    return distance(found, wanted), distance(*slopes)


def distance(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found.double() - wanted.double()).detach().abs().max() / wanted.detach().abs().max())


def put(into: torch.nn.Module, **values: Tensor) -> None:
    """Fill every parameter of a reference, by name; dots are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    parameters = dict(into.named_parameters())
    assert set(named) == set(parameters), set(named) ^ set(parameters)
    with torch.no_grad():
        for name, value in named.items():
            parameters[name].copy_(value.reshape(parameters[name].shape))


def head_by_head(spec: Block, weights: Weights, head: Callable[[Tensor, Weights, int], Tensor]) -> Reference:
    """The sum over heads of what `head(x, weights, h)` [B, T, P] gives to the output, in float64."""
    exact = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        heads = exact["wo"].shape[1]
        return sum((head(x.double(), exact, h) @ exact["wo"][:, h].T for h in range(heads)), torch.zeros(()))

    return reference


def normed(o: Tensor, weight: Tensor, bias: Tensor | float = 0.0, eps: float = 1e-6) -> Tensor:
    """Group norm of one head o [B, T, P]."""
    centred = o - o.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias


def silu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def retention(spec: Retention, weights: Weights, d_model: int) -> Reference:
    """The parallel form of arXiv:2307.08621, equation (5), its rotation by complex numbers."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        time = torch.arange(x.shape[1], dtype=torch.float64)
        angle = time[:, None] * 10_000.0 ** -(torch.arange(spec.state_dim // 2).double() * 2 / spec.state_dim)
        q, k = (
            torch.complex(*(x @ w[name][h].T).chunk(2, dim=-1)) * torch.polar(torch.ones_like(angle), angle)
            for name in ("wq", "wk")
        )
        age = time[:, None] - time
        fade = (1 - 2.0 ** (-5 - h)) ** age * (age >= 0)
        o = (q @ k.mH).real / spec.state_dim**0.5 * fade @ (x @ w["wv"][h].T)
        return normed(o, w["norm"][h], w["norm_bias"][h]) * silu(x @ w["wz"][h].T)

    return head_by_head(spec, weights, head)


@pytest.mark.parametrize(
    ("num_heads", "head_dim", "state_dim", "d_model"),
    [(4, 8, 16, WIDTH), (2, 6, 4, WIDTH), (1, 8, 16, 11), (3, 5, 6, 17)],
)
def test_retention_is_its_parallel_form(num_heads: int, head_dim: int, state_dim: int, d_model: int) -> None:
    small = Retention(num_heads=num_heads, head_dim=head_dim, state_dim=state_dim)
    large = Retention(num_heads=4, head_dim=8, state_dim=16)
    assert max(deviation(large, small, d_model, retention)) < TOLERANCE


def convolved(x: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """silu(conv(W x)) of one head [B, T, K] by PyTorch's convolution."""
    kernel = taps.flip(-1)[:, None]
    padded = F.pad((x @ weight.T).mT, (taps.shape[-1] - 1, 0))
    return silu(F.conv1d(padded, kernel, groups=taps.shape[0]).mT)


def delta_net(spec: DeltaNet, weights: Weights, d_model: int) -> Reference:
    """Equation (2) of arXiv:2406.06484 as a product of Householder-like matrices: S (I - b k k') + b v k'."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        q, k = (convolved(x, w["wqk"][i, h], w["conv_qk"][i, h]) for i in (0, 1))
        q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
        v = convolved(x, w["wv"][h], w["conv_v"][h])
        rate = torch.sigmoid(x @ w["wb"][h])[..., None, None]
        memory, outputs = torch.zeros(x.shape[0], v.shape[-1], k.shape[-1]).double(), []
        for t in range(x.shape[1]):
            key, value, b = k[:, t, None, :], v[:, t, :, None], rate[:, t]
            memory = memory @ (torch.eye(k.shape[-1]) - b * key.mT @ key) + b * value @ key
            outputs.append((memory @ q[:, t, :, None])[..., 0] / spec.state_dim**0.5)
        o = torch.stack(outputs, dim=1)
        return o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w["norm"]

    return head_by_head(spec, weights, head)


def gated_delta_net(spec: GatedDeltaNet, weights: Weights, d_model: int) -> Reference:
    pytest.importorskip("transformers")
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        hidden_size=d_model,
        linear_num_value_heads=spec.num_heads,
        linear_num_key_heads=spec.num_heads,
        linear_key_head_dim=spec.state_dim,
        linear_value_head_dim=spec.head_dim,
        linear_conv_kernel_dim=spec.conv_kernel,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
    )
    module = Qwen3NextGatedDeltaNet(config, 0).eval()
    q, k = weights["wqk"]
    taps = torch.cat([part.flatten(0, 1) for part in (*weights["conv_qk"], weights["conv_v"])])
    put(
        module,
        in_proj_qkvz__weight=torch.cat((q, k, weights["wv"], weights["wz"]), dim=1),
        in_proj_ba__weight=torch.stack((weights["wb"], weights["wdt"]), dim=1),
        conv1d__weight=taps.flip(-1),
        dt_bias=weights["dt_bias"],
        A_log=weights["a_log"],
        norm__weight=weights["norm"],
        out_proj__weight=weights["wo"],
    )
    return lambda x: module(x)


DELTA_NETS = {DeltaNet: delta_net, GatedDeltaNet: gated_delta_net}


@pytest.mark.parametrize("kind", DELTA_NETS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    ("sizes", "d_model"),
    [
        ({}, WIDTH),
        ({"num_heads": 2, "head_dim": 6, "state_dim": 5}, WIDTH),
        ({"num_heads": 1, "conv_kernel": 3}, 11),
        ({"num_heads": 3, "head_dim": 5, "state_dim": 7, "conv_kernel": 2}, 17),
    ],
)
def test_delta_nets_are_their_references(kind: type[DeltaNet], sizes: dict[str, int], d_model: int) -> None:
    large = kind(num_heads=4, head_dim=8, state_dim=16)
    assert max(deviation(large, replace(large, **sizes), d_model, DELTA_NETS[kind])) < TOLERANCE


def log_forget(a: Tensor, gate: str) -> Tensor:
    return -torch.log1p(torch.exp(-a)) if gate == "sigmoid" else a


def matrix_lstm(spec: MLSTM, weights: Weights, d_model: int) -> Reference:
    """Equations (19) to (27) of arXiv:2405.04517 as they stand: gates are not stabilised."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        q, k, v = (x @ w[name][h].T for name in ("wq", "wk", "wv"))
        q = q / spec.state_dim**0.5
        i, f = (15 * torch.tanh((x @ w["gates"][n, h] + w["gate_bias"][n, h]) / 15) for n in (0, 1))
        i, f = i.exp(), log_forget(f, spec.forget_gate).exp()
        memory = torch.zeros(x.shape[0], spec.state_dim, spec.head_dim).double()
        normaliser, outputs = memory[..., 0], []
        for t in range(x.shape[1]):
            forget, key = f[:, t, None], i[:, t, None] * k[:, t]
            memory = forget[..., None] * memory + key[..., None] * v[:, t, None]
            normaliser = forget * normaliser + key
            divisor = (normaliser * q[:, t]).sum(-1, keepdim=True).abs().clamp(min=1)
            outputs.append((memory * q[:, t, :, None]).sum(1) / divisor)
        o = torch.sigmoid(x @ w["wz"][h].T)
        return o * normed(torch.stack(outputs, dim=1), w["norm"][h])

    return head_by_head(spec, weights, head)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exponential"])
@pytest.mark.parametrize(
    ("num_heads", "head_dim", "state_dim", "d_model"),
    [(4, 8, 16, WIDTH), (2, 6, 5, WIDTH), (1, 8, 16, 11), (3, 5, 7, 17)],
)
def test_mlstm_is_its_recurrence(
    num_heads: int, head_dim: int, state_dim: int, d_model: int, forget_gate: str
) -> None:
    large = MLSTM(num_heads=4, head_dim=8, state_dim=16, forget_gate=forget_gate)
    small = replace(large, num_heads=num_heads, head_dim=head_dim, state_dim=state_dim)
    assert max(deviation(large, small, d_model, matrix_lstm)) < TOLERANCE


def xlstm_layer(spec: MLSTM, weights: Weights, d_model: int) -> Reference:
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


@pytest.mark.parametrize("seed", range(4))
def test_mlstm_is_the_layer_of_xlstm(seed: int) -> None:
    dice = Random(seed)
    large = MLSTM(num_heads=4, head_dim=6, state_dim=6)
    heads = 4 if seed == 0 else dice.choice([1, 2, 3])
    # its configuration wants widths of heads that are shares of d_model
    assert max(deviation(large, replace(large, num_heads=heads), WIDTH, xlstm_layer)) < TOLERANCE


def test_the_mlstm_memory_is_transformers() -> None:
    pytest.importorskip("transformers")
    from transformers.models.xlstm import modeling_xlstm

    if modeling_xlstm.external_xlstm:
        pytest.skip("transformers would hand over to the package xlstm")
    q, k, v, w, f, memory = draws((5, 5, 7, None, None, None), COUNT)
    cell = Cell(memory, memory[..., 0], w[:, 0])
    y, last = mlstm(q * 5**-0.5, k, v, 3 * w, F.logsigmoid(f + 2), cell)
    wanted, wanted_last = modeling_xlstm.mlstm_recurrent_sequence_native(
        *(part.transpose(1, 2) for part in (q, k, v)),
        (3 * w).transpose(1, 2),
        (f + 2).transpose(1, 2),
        *(cell.memory, cell.normaliser, cell.peak[..., None]),
        return_last_states=True,
        eps=0.0,
    )
    assert distance(y, wanted.transpose(1, 2)) < TOLERANCE
    for found, part in zip(last, wanted_last, strict=True):
        assert distance(found, part.reshape(found.shape)) < TOLERANCE


def scalar_lstm(spec: SLSTM, weights: Weights, d_model: int) -> Reference:
    """Equations (8) to (14) of arXiv:2405.04517 as they stand: gates are not stabilised."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        c = n = y = torch.zeros(x.shape[0], spec.head_dim).double()
        outputs = []
        for t in range(x.shape[1]):
            z, i, f, o = (
                x[:, t] @ w["wx"][gate, h].T + y @ w["recurrent"][gate, h].T + w["bias"][gate, h]
                for gate in range(4)
            )
            i, f = i.exp(), log_forget(f, spec.forget_gate).exp()
            c, n = f * c + i * z.tanh(), f * n + i
            y = torch.sigmoid(o) * c / n
            outputs.append(y)
        return normed(torch.stack(outputs, dim=1), w["norm"][h])

    return head_by_head(spec, weights, head)


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exponential"])
@pytest.mark.parametrize(
    ("num_heads", "head_dim", "d_model"), [(4, 8, WIDTH), (2, 6, WIDTH), (1, 8, 11), (3, 5, 17)]
)
def test_slstm_is_its_recurrence(num_heads: int, head_dim: int, d_model: int, forget_gate: str) -> None:
    large = SLSTM(num_heads=4, head_dim=8, forget_gate=forget_gate)
    small = replace(large, num_heads=num_heads, head_dim=head_dim)
    assert max(deviation(large, small, d_model, scalar_lstm)) < TOLERANCE


def finch(spec: RWKV6, weights: Weights, d_model: int) -> Reference:
    """Equations (11) to (19) of arXiv:2404.05892, one head and one token at a time."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        change = F.pad(x, (0, 0, 1, 0))[:, :-1] - x
        base = x + change * w["mix"][0]
        parts = []
        for i in range(5):
            low = torch.tanh(base @ w["mix_in"][i].T) @ w["mix_out"][i].T
            parts.append(x + change * (w["mix"][i + 1] + low))
        low = torch.tanh(parts[0] @ w["decay_in"].T) @ w["decay_out"][h].T
        fade = torch.exp(-torch.exp(w["decay"][h] + low))
        k, v, r, g = (
            part @ w[name][h].T for part, name in zip(parts[1:], ("wk", "wv", "wr", "wg"), strict=True)
        )
        memory, outputs = torch.zeros(x.shape[0], spec.state_dim, spec.head_dim).double(), []
        for t in range(x.shape[1]):
            new = k[:, t, :, None] * v[:, t, None, :]
            outputs.append(((memory + w["bonus"][h][:, None] * new) * r[:, t, :, None]).sum(1))
            memory = fade[:, t, :, None] * memory + new
        o = normed(torch.stack(outputs, dim=1), w["norm"][h], w["norm_bias"][h], eps=64e-5)
        return o * silu(g)

    return head_by_head(spec, weights, head)


@pytest.mark.parametrize(
    ("num_heads", "head_dim", "state_dim", "d_model"),
    [(4, 8, 16, WIDTH), (2, 6, 5, WIDTH), (1, 8, 16, 11), (3, 5, 7, 17)],
)
def test_rwkv6_is_its_recurrence(num_heads: int, head_dim: int, state_dim: int, d_model: int) -> None:
    large = RWKV6(num_heads=4, head_dim=8, state_dim=16)
    small = RWKV6(num_heads=num_heads, head_dim=head_dim, state_dim=state_dim)
    assert max(deviation(large, small, d_model, finch)) < TOLERANCE


def rwkv_feed_forward(spec: RWKVChannelMix, weights: Weights, d_model: int) -> Reference:
    pytest.importorskip("transformers")
    from transformers import RwkvConfig
    from transformers.models.rwkv.modeling_rwkv import RwkvFeedForward

    module = RwkvFeedForward(RwkvConfig(hidden_size=d_model, intermediate_size=spec.hidden(d_model)))
    put(
        module,
        time_mix_key=1 - weights["mix"][0],  # theirs is the share of this token
        time_mix_receptance=1 - weights["mix"][1],
        key__weight=weights["wk"],
        receptance__weight=weights["wr"],
        value__weight=weights["wv"],
    )
    return lambda x: module(x)[0]


@pytest.mark.parametrize(("expansion", "d_model"), [(3, WIDTH), (2.5, WIDTH), (1, 11), (2, 17)])
def test_rwkv_channel_mix_is_rwkvs(expansion: float, d_model: int) -> None:
    small, large = RWKVChannelMix(expansion=expansion), RWKVChannelMix(expansion=3)
    assert max(deviation(large, small, d_model, rwkv_feed_forward)) < TOLERANCE


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
        wanted = fla("ops/retention/naive.py").naive_retention
        q, k, v, _ = draws((5, 5, 7, None), COUNT)
        g = torch.log1p(-(2.0 ** (-5 - torch.arange(3.0)))).expand(2, COUNT, 3)
        y, _ = decay_attention(q * 5**-0.5, k, v, g)
        assert distance(y, wanted(*(part.transpose(1, 2) for part in (q, k, v))).transpose(1, 2)) < TOLERANCE

    def test_rwkv6(self) -> None:
        wanted = fla("ops/rwkv6/recurrent_naive.py").naive_recurrent_rwkv6
        q, k, v, g, state = draws((5, 5, 7, 5, None), COUNT)
        bonus, g = q[0, 0], -g.exp()
        y, last = gated_attention(q, k, v, g, state, bonus=bonus, final=True)
        parts = (part.transpose(1, 2) for part in (q, k, v, g))
        o, memory = wanted(*parts, bonus, scale=1.0, initial_state=state, output_final_state=True)
        assert distance(y, o.transpose(1, 2)) < TOLERANCE
        assert distance(last, memory) < TOLERANCE

    def test_delta_rule(self) -> None:
        pytest.importorskip("einops")
        wanted = fla("ops/delta_rule/naive.py").delta_rule_recurrence
        q, k, v, b, state = draws((5, 5, 7, None, None), COUNT)
        k, b = F.normalize(k, dim=-1), b.sigmoid()
        y, last = delta_rule(q * 5**-0.5, k, v, b, state=state, final=True)
        o, memory = wanted(*(part.transpose(1, 2) for part in (q, k, v, b)), initial_state=state)
        assert distance(y, o.transpose(1, 2)) < TOLERANCE
        assert distance(last, memory) < TOLERANCE

    def test_gated_delta_rule(self) -> None:
        pytest.importorskip("einops")
        wanted = fla("ops/gated_delta_rule/naive.py").naive_recurrent_gated_delta_rule
        q, k, v, b, g, state = draws((5, 5, 7, None, None, None), COUNT)
        k, b, g = F.normalize(k, dim=-1), b.sigmoid(), -g.exp()
        y, last = delta_rule(q * 5**-0.5, k, v, b, g, state=state, final=True)
        o, memory = wanted(q, k, v, b, g, initial_state=state, output_final_state=True)
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
