"""State space and long convolution mixers against independent implementations and second formulations.

Mamba is compared with transformers (its slow path, which is quadratic in time under autograd: sequences stay
short); S4D and S4 with scipy's discretisation and with dense matrices; Hyena and LongConv with their sums.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal
from torch import Tensor
from torch.func import functional_call

from search_spaces.blocks.base import Block, Mixer
from search_spaces.blocks.hyena import Hyena, HyenaMixer
from search_spaces.blocks.long_conv import LongConv, LongConvMixer
from search_spaces.blocks.mamba import Mamba, MambaMixer
from search_spaces.blocks.s4 import S4, S4Mixer
from search_spaces.blocks.s4d import S4D, S4DMixer
from search_spaces.errors import IllegalArchitecture

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers")
from transformers import JambaConfig, MambaConfig
from transformers.models.jamba.modeling_jamba import JambaMambaMixer
from transformers.models.mamba.modeling_mamba import MambaMixer as TransformersMambaMixer

WIDTH, COUNT = 24, 49
Weights = dict[str, Tensor]
Reference = Callable[[Tensor], Tensor]


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=dice(seed), dtype=torch.float64)


def filled(spec: Block, d_model: int, seed: int = 0) -> Mixer:
    module = spec.build(d_model)
    with torch.no_grad():
        module.reset_parameters(dice(seed))
        for parameter in module.parameters():  # biases and norms away from their start
            parameter.add_(torch.randn(parameter.shape, generator=dice(seed + 1)), alpha=0.1)
    return module


def put(into: torch.nn.Module, **values: Tensor) -> None:
    """Fill every parameter of a reference, by name; dots are written as two underscores."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    parameters = dict(into.named_parameters())
    assert set(named) == set(parameters), set(named) ^ set(parameters)
    with torch.no_grad():
        for name, value in named.items():
            parameters[name].copy_(value.reshape(parameters[name].shape))


def assert_near(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < tolerance * wanted.abs().max()


def transformers_mamba(spec: Mamba, weights: Weights, d_model: int) -> Reference:
    if spec.norms:
        config = JambaConfig(
            hidden_size=d_model,
            mamba_d_state=spec.state_dim,
            mamba_d_conv=spec.conv_kernel,
            mamba_dt_rank=spec.dt_rank,
            mamba_expand=1,
            use_mamba_kernels=False,
        )
        module, norms = (
            JambaMambaMixer,
            {
                "dt_layernorm__weight": weights["dt_norm"],
                "b_layernorm__weight": weights["bc_norm"][0],
                "c_layernorm__weight": weights["bc_norm"][1],
            },
        )
    else:
        config = MambaConfig(
            hidden_size=d_model,
            state_size=spec.state_dim,
            conv_kernel=spec.conv_kernel,
            time_step_rank=spec.dt_rank,
            expand=1,
            num_hidden_layers=1,
        )
        module, norms = TransformersMambaMixer, {}
    if spec.norms:
        # the configuration wants the inner width to be a multiple of d_model, the module does not
        config.hidden_size = spec.channels
    else:
        config.hidden_size = config.intermediate_size = spec.channels
    built = module(config, 0).eval()
    built.in_proj = torch.nn.Linear(d_model, 2 * spec.channels, bias=False)
    built.out_proj = torch.nn.Linear(spec.channels, d_model, bias=False)
    put(
        built,
        in_proj__weight=torch.cat((weights["wx"], weights["wz"])),
        conv1d__weight=weights["conv"].flip(-1),
        conv1d__bias=weights["conv_bias"],
        x_proj__weight=torch.cat((weights["dt_in"], weights["wbc"].flatten(0, 1))),
        dt_proj__weight=weights["dt_out"],
        dt_proj__bias=weights["dt_bias"],
        A_log=weights["a_log"],
        D=weights["skip"],
        out_proj__weight=weights["wo"],
        **norms,
    )
    return lambda x: built(x)


def assert_is_transformers_mamba(large: Mamba, small: Mamba, d_model: int) -> None:
    """`small` at d_model, on slices of the weights of `large` at WIDTH, is the reference of that size."""
    parameters = {name: part.detach() for name, part in filled(large, WIDTH).named_parameters()}
    with torch.device("meta"):
        module = small.build(d_model)
    slices = {
        name: parameters[name][tuple(slice(size) for size in part.shape)]
        for name, part in module.named_parameters()
    }
    reference = transformers_mamba(small, {name: part.contiguous() for name, part in slices.items()}, d_model)
    x = draw(2, COUNT, d_model).float().requires_grad_()
    found, wanted = functional_call(module, slices, (x,), tie_weights=False).y, reference(x)
    assert_near(found, wanted, 1e-5)
    mix = draw(*wanted.shape, seed=2).float()
    (slope,), (wanted_slope,) = (torch.autograd.grad((y * mix).sum(), x) for y in (found, wanted))
    assert_near(slope, wanted_slope, 1e-5)


@pytest.mark.parametrize("norms", [False, True], ids=["Mamba", "Jamba"])
@pytest.mark.parametrize("taps", [3, 4])
def test_mamba_is_mamba(taps: int, norms: bool) -> None:
    spec = Mamba(channels=48, state_dim=16, dt_rank=5, conv_kernel=taps, norms=norms)
    assert_is_transformers_mamba(spec, spec, WIDTH)


@pytest.mark.parametrize("norms", [False, True], ids=["Mamba", "Jamba"])
@pytest.mark.parametrize("seed", range(3))
def test_slices_of_mamba_are_mamba(seed: int, norms: bool) -> None:
    choice = Random(seed)
    large = Mamba(channels=48, state_dim=16, dt_rank=5, norms=norms)
    sizes = {
        "channels": choice.choice([7, 24, 31]),
        "state_dim": choice.choice([1, 5, 8]),
        "dt_rank": choice.choice([1, 3, 4]),
        "conv_kernel": choice.choice([2, 3, 4]),
    }
    assert_is_transformers_mamba(large, replace(large, **sizes), choice.choice([12, 17]))


def constant(module: MambaMixer) -> None:
    """Make dt, B and C the same for all tokens: B and C come of a channel that is always one."""
    with torch.no_grad():
        module.dt_out.zero_()
        module.wbc[:, :, 1:] = 0
        module.conv[0], module.conv_bias[0] = 0, 3.0


@torch.no_grad()
def test_mamba_with_constant_selection_is_a_convolution() -> None:
    module = filled(Mamba(channels=6, state_dim=4, dt_rank=2), 5).double()
    assert isinstance(module, MambaMixer)
    constant(module)
    x = draw(2, 65, 5)
    u = F.silu(_short(F.linear(x, module.wx), module.conv, module.conv_bias))
    b, c = (module.wbc[:, :, 0] * F.silu(torch.tensor(3.0, dtype=torch.float64))).unbind(0)
    dt, a = F.softplus(module.dt_bias), -module.a_log.exp()
    lags = torch.arange(65)
    kernel = torch.einsum("n,dnl,n->dl", c, torch.exp((dt[:, None] * a)[..., None] * lags), b) * dt[:, None]
    y = _convolved(u, kernel) + module.skip * u
    wanted = F.linear(y * F.silu(F.linear(x, module.wz)), module.wo)
    assert_near(module(x).y, wanted, 1e-12)


def _short(x: Tensor, taps: Tensor, bias: Tensor | None = None) -> Tensor:
    return _convolved(x, taps) + (0 if bias is None else bias)


def _convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """y_t = sum_l h_l x_{t-l}, by the sum over lags."""
    y = torch.zeros_like(x)
    for lag in range(min(kernel.shape[-1], x.shape[1])):
        y[:, lag:] += kernel[:, lag] * x[:, : x.shape[1] - lag]
    return y


def glu_of(module: S4DMixer | S4Mixer, y: Tensor) -> Tensor:
    """What follows the state space: GELU, and a gated product."""
    values, gates = (F.gelu(y) @ weight.T for weight in module.wo)
    return values * torch.sigmoid(gates)


@pytest.mark.parametrize(("state_dim", "init"), [(1, "lin"), (4, "lin"), (9, "inv")])
@torch.no_grad()
def test_s4d_is_scipys_discrete_system(state_dim: int, init: str) -> None:
    module = filled(S4D(state_dim=state_dim, init=init), 3).double()
    assert isinstance(module, S4DMixer)
    x = draw(2, 65, 3)
    y = torch.empty_like(x)
    for d in range(3):
        fade, turn = (np.diag(part[d].numpy()) for part in (module.log_fade.exp(), module.turn))
        a = np.block([[-fade, -turn], [turn, -fade]])  # complex modes as pairs of reals
        b = np.concatenate((np.ones(state_dim), np.zeros(state_dim)))[:, None]
        c = 2 * torch.cat((module.c_real[d], -module.c_imag[d])).numpy()[None]
        step = math.exp(module.log_step[d].item())
        a, b, *_ = signal.cont2discrete((a, b, c, np.zeros((1, 1))), step, method="zoh")
        # scipy's output at t is of the state before the token at t, ours of the state after it
        system = (a, b, c @ a, c @ b + module.skip[d].item(), step)
        for row in range(2):
            y[row, :, d] = torch.from_numpy(signal.dlsim(system, x[row, :, d].numpy())[1][:, 0])
    assert_near(module(x).y, glu_of(module, y), 1e-12)


def dense_kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray, step: float, count: int) -> Tensor:
    """c A^l B for l < count, by powers of the dense matrix that scipy discretises."""
    a, b, *_ = signal.cont2discrete((a, b[:, None], c[None], np.zeros((1, 1))), step, method="bilinear")
    taps = [c @ np.linalg.matrix_power(a, lag) @ b[:, 0] for lag in range(count)]
    return torch.tensor(np.array(taps).real, dtype=torch.float64)


@pytest.mark.parametrize("state_dim", [1, 4, 7])
@torch.no_grad()
def test_s4_is_its_dense_matrix(state_dim: int) -> None:
    module = filled(S4(state_dim=state_dim), 3).double()
    assert isinstance(module, S4Mixer)
    pole = (-module.log_fade.exp() + 1j * module.turn).numpy()
    p, b = (torch.complex(*part).numpy() for part in (module.p, module.b))
    c = torch.complex(module.c_real, module.c_imag).numpy()
    matrix, steps = np.diag(pole) - np.outer(p, p.conj()), module.log_step.exp().tolist()
    kernel = torch.stack([dense_kernel(matrix, b, c[d], steps[d], 65) for d in range(3)])
    x = draw(2, 65, 3)
    assert_near(module(x).y, glu_of(module, _convolved(x, kernel) + module.skip * x), 1e-12)


@pytest.mark.parametrize("state_dim", [2, 5, 16])
@torch.no_grad()
def test_s4_starts_at_hippo(state_dim: int) -> None:
    """Reading out b^* makes the kernel independent of the basis: that of LegS itself."""
    module = S4(state_dim=state_dim).build(2).double()
    assert isinstance(module, S4Mixer)
    module.reset_parameters(dice(0))
    module.c_real.copy_(module.b[0].expand_as(module.c_real))
    module.c_imag.copy_(-module.b[1].expand_as(module.c_imag))
    n = np.arange(state_dim)
    root = np.sqrt(2 * n + 1)
    legs = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    kernel = torch.stack([dense_kernel(legs, root, root, h, 33) for h in module.log_step.exp().tolist()])
    x = draw(2, 33, 2)
    assert_near(module(x).y, glu_of(module, _convolved(x, kernel) + module.skip * x), 1e-12)


@pytest.mark.parametrize("length", [None, 1, 13])
@torch.no_grad()
def test_hyena_is_its_sum(length: int | None) -> None:
    module = filled(Hyena(filter_dim=6, length=length), 5).double()
    assert isinstance(module, HyenaMixer)
    x, kernel = draw(2, 40, 5), torch.empty(5, length or 40, dtype=torch.float64)
    for lag in range(kernel.shape[1]):
        time = torch.tensor(lag / 1024, dtype=torch.float64)
        angles = 2 * math.pi * time * 2.0 ** torch.arange(8, dtype=torch.float64)
        hidden = torch.cat((time[None], angles.sin(), angles.cos()))
        for weight, bias in (
            (module.filter_in, module.filter_in_bias),
            (module.filter_hidden, module.filter_hidden_bias),
        ):
            hidden = torch.sin(module.frequency * (weight @ hidden + bias))
        kernel[:, lag] = module.filter_out @ hidden * torch.exp(-module.fade.exp() * time)
    q, k, v = (_short(x @ w.T, taps) for w, taps in zip(module.w_in, module.conv, strict=True))
    mixed = _convolved(k * v, kernel) + module.skip * k * v
    assert_near(module(x).y, (q * mixed) @ module.wo.T, 1e-12)


@pytest.mark.parametrize("squash", [0, 0.2])
@pytest.mark.parametrize("length", [1, 13, 90])
@torch.no_grad()
def test_long_conv_is_its_sum(length: int, squash: float) -> None:
    module = filled(LongConv(length=length, squash=squash), 5).double()
    assert isinstance(module, LongConvMixer)
    x = draw(2, 40, 5)
    v = x @ module.wv.T
    kernel = module.taps.sign() * (module.taps.abs() - squash).clamp(min=0)
    gated = (_convolved(v, kernel) + module.skip * v) * F.silu(x @ module.wz.T)
    assert_near(module(x).y, gated @ module.wo.T, 1e-12)


LONG: list[Block] = [
    Mamba(channels=12, state_dim=4, dt_rank=2),
    S4D(state_dim=4),
    S4(state_dim=5),
    Hyena(filter_dim=8),
    LongConv(length=300),
]


@pytest.mark.parametrize("spec", LONG, ids=lambda spec: type(spec).__name__)
@torch.no_grad()
def test_a_thousand_tokens_are_read_as_they_are_decoded(spec: Block) -> None:
    module, x = filled(spec, 6).double(), draw(1, 1000, 6)
    state, outputs = module.init_state(1, 1000), []
    for t in range(1000):
        y, state = module.step(x[:, t], state, t)
        outputs.append(y)
    decoded = torch.stack(outputs, dim=1)
    assert_near(module(x).y, decoded, 1e-9)
    head = module(x[:, :489], module.init_state(1, 1000), 0)
    tail = module(x[:, 489:], head.state, 489)
    assert_near(torch.cat((head.y, tail.y), dim=1), decoded, 1e-9)
    for name, part in (tail.state or {}).items():
        assert_near(part, state[name], 1e-9)


ILLEGAL: list[tuple[Block, str]] = [
    (Mamba(channels=0), "channels"),
    (Mamba(state_dim=2.0), "state_dim"),  # type: ignore[arg-type]
    (Mamba(dt_rank=-1), "dt_rank"),
    (Mamba(conv_kernel=0), "conv_kernel"),
    (Mamba(norms=1), "norms"),  # type: ignore[arg-type]
    (S4D(state_dim=0), "state_dim"),
    (S4D(init="legs"), "init"),
    (S4(state_dim=0), "state_dim"),
    (Hyena(filter_dim=0), "filter_dim"),
    (Hyena(conv_kernel=1), "conv_kernel"),
    (Hyena(length=0), "length"),
    (LongConv(length=0), "length"),
    (LongConv(squash=-0.1), "squash"),
    (LongConv(squash=float("nan")), "squash"),
]


@pytest.mark.parametrize(("spec", "word"), ILLEGAL, ids=str)
def test_illegal_values_are_refused_by_name(spec: Block, word: str) -> None:
    with pytest.raises(IllegalArchitecture, match=f"{type(spec).__name__}: {word}"):
        spec.check(WIDTH)


class Whole(torch.nn.Module):
    """A block as a function of tokens alone."""

    def __init__(self, block: Mixer) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).y


class Step(Whole):
    """A block's step; what it may do to the state that it is given stays inside."""

    def forward(self, x: Tensor, state: dict[str, Tensor], position: Tensor) -> Tensor:
        return self.block.step(x, {name: part.clone() for name, part in state.items()}, position)[0]


@pytest.mark.parametrize("spec", LONG, ids=lambda spec: type(spec).__name__)
@torch.no_grad()
def test_both_modes_can_be_exported(spec: Block) -> None:
    module, x = filled(spec, 6).eval(), draw(1, 21, 6).float()
    whole = torch.export.export(Whole(module), (x,)).module()
    torch.testing.assert_close(whole(x), module(x).y)
    state = module(x, module.init_state(1, 30), 0).state or {}
    step = torch.export.export(Step(module), (x[:, 0], state, torch.tensor(21))).module()
    for position in (21, 22):  # no position is built in
        wanted = Step(module)(x[:, 1], state, torch.tensor(position))
        torch.testing.assert_close(step(x[:, 1], state, torch.tensor(position)), wanted)


# PyTorch's own tracer makes an instance of every autograd.Function, which PyTorch warns of
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("spec", LONG, ids=lambda spec: type(spec).__name__)
def test_they_can_be_compiled_as_one_graph_with_their_gradients(spec: Block) -> None:
    torch.compiler.reset()
    module, x = filled(spec, 6), draw(1, 21, 6).float().requires_grad_()
    compiled = torch.compile(Whole(module), backend="aot_eager", fullgraph=True)(x)
    plain = module(x).y
    torch.testing.assert_close(compiled, plain)
    (slope,), (wanted,) = (torch.autograd.grad(y.square().sum(), x) for y in (compiled, plain))
    torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-4)
