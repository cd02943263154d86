"""State spaces and long convolutions: systems discretised by scipy, special cases, long sequences, graphs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Mixer
from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.long_conv import LongConv
from search_spaces.blocks.mamba import Mamba, MambaMixer
from search_spaces.blocks.s4 import S4, S4Mixer
from search_spaces.blocks.s4d import S4D, S4DMixer
from search_spaces.references.convolution import convolved
from search_spaces.references.state_space import glu
from tests.blocks.filled import dice, filled

WIDTH = 24


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=dice(seed), dtype=torch.float64)


def assert_near(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() < tolerance * expected.abs().max()


def constant(module: MambaMixer) -> None:
    """Make dt, B and C the same for all tokens: B and C come of a channel that is always one."""
    with torch.no_grad():
        module.dt_out.zero_()
        module.wbc[:, :, 1:] = 0
        module.conv[0], module.conv_bias[0] = 0, 3.0


@torch.no_grad()
def test_mamba_with_constant_selection_is_a_convolution() -> None:
    module = filled(Mamba(channels=6, state_dim=4, dt_rank=2), 5, noise=0.1).double()
    assert isinstance(module, MambaMixer)
    constant(module)
    x = draw(2, 65, 5)
    u = F.silu(convolved(F.linear(x, module.wx), module.conv) + module.conv_bias)
    b, c = (module.wbc[:, :, 0] * F.silu(torch.tensor(3.0, dtype=torch.float64))).unbind(0)
    dt, a = F.softplus(module.dt_bias), -module.a_log.exp()
    lags = torch.arange(65)
    kernel = torch.einsum("n,dnl,n->dl", c, torch.exp((dt[:, None] * a)[..., None] * lags), b) * dt[:, None]
    y = convolved(u, kernel) + module.skip * u
    expected = F.linear(y * F.silu(F.linear(x, module.wz)), module.wo)
    assert_near(module(x).y, expected, 1e-12)


@pytest.mark.parametrize(("state_dim", "init"), [(1, "lin"), (4, "lin"), (9, "inv")])
@torch.no_grad()
def test_s4d_is_scipys_discrete_system(state_dim: int, init: str) -> None:
    module = filled(S4D(state_dim=state_dim, init=init), 3, noise=0.1).double()
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
    assert_near(module(x).y, glu({"wo": module.wo}, y), 1e-12)


def dense_kernel(a: np.ndarray, b: np.ndarray, c: np.ndarray, step: float, count: int) -> Tensor:
    """c A^l B for l < count, by powers of the dense matrix that scipy discretises."""
    a, b, *_ = signal.cont2discrete((a, b[:, None], c[None], np.zeros((1, 1))), step, method="bilinear")
    taps = [c @ np.linalg.matrix_power(a, lag) @ b[:, 0] for lag in range(count)]
    return torch.tensor(np.array(taps).real, dtype=torch.float64)


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
    assert_near(module(x).y, glu({"wo": module.wo}, convolved(x, kernel) + module.skip * x), 1e-12)


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
    module, x = filled(spec, 6, noise=0.1).double(), draw(1, 1000, 6)
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


@pytest.mark.parametrize("spec", LONG, ids=lambda spec: type(spec).__name__)
@torch.no_grad()
def test_a_sequence_without_state_can_be_exported(spec: Block) -> None:
    module, x = filled(spec, 6, noise=0.1).eval(), draw(1, 21, 6).float()
    whole = torch.export.export(Whole(module), (x,)).module()
    torch.testing.assert_close(whole(x), module(x).y)


# PyTorch's own tracer makes an instance of every autograd.Function, which PyTorch warns of
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("spec", LONG, ids=lambda spec: type(spec).__name__)
@pytest.mark.slow
def test_they_can_be_compiled_as_one_graph_with_their_gradients(spec: Block) -> None:
    torch.compiler.reset()
    module, x = filled(spec, 6, noise=0.1), draw(1, 21, 6).float().requires_grad_()
    compiled = torch.compile(Whole(module), backend="aot_eager", fullgraph=True)(x)
    plain = module(x).y
    torch.testing.assert_close(compiled, plain)
    (slope,), (expected,) = (torch.autograd.grad(y.square().sum(), x) for y in (compiled, plain))
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-4)
