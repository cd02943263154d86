"""The forms for programs of other runtimes, which lack operators, against what PyTorch computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from search_spaces.blocks.base import Block
from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.s4 import S4
from search_spaces.network.programs import exported
from search_spaces.ops.activations import gelu_tanh
from search_spaces.ops.long_conv import long_conv_in_blocks, long_conv_plainly
from search_spaces.ops.low_rank_modes import LowRankModes, low_rank_kernel, low_rank_response, low_rank_state
from search_spaces.ops.low_rank_pairs import LowRankPairs
from search_spaces.ops.running_maximum import running_maximum, running_maximum_doubled
from tests.blocks.filled import dice
from tests.ops.recurrences import normal

LENGTHS = (1, 2, 7, 64, 100)


@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("count", LENGTHS)
def test_a_running_maximum_by_doubling_is_that_value_by_value(count: int, dim: int) -> None:
    x = normal(2, count, 3) if dim == 1 else normal(2, 3, count)
    assert torch.equal(running_maximum_doubled(x, dim), running_maximum(x, dim))


@pytest.mark.parametrize("taps", [1, 7, 150])
@pytest.mark.parametrize("count", LENGTHS)
def test_a_convolution_in_blocks_is_the_sum(count: int, taps: int) -> None:
    x, kernel = normal(2, count, 3), normal(3, taps, seed=1)
    found = long_conv_in_blocks(x, kernel)
    torch.testing.assert_close(found, long_conv_plainly(x, kernel), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("count", LENGTHS)
def test_pairs_of_reals_are_complex_modes(count: int) -> None:
    pole = torch.complex(-normal(3, seed=1).abs() - 0.1, 3 * normal(3, seed=2))
    p, b = (torch.complex(normal(3, seed=s), normal(3, seed=s + 1)) / 2 for s in (3, 5))
    dt, u = normal(2, 1, seed=7).abs() / 5 + 0.01, normal(4, count, 2, seed=8)
    c, start = (torch.complex(normal(n, 2, 3, seed=n), normal(n, 2, 3, seed=9 + n)) for n in (1, 4))
    modes = LowRankModes(pole, p, b, dt)
    pairs = LowRankPairs(*(torch.stack((x.real, x.imag)) for x in (pole, p, b)), dt)
    kernel, near, far, jump = low_rank_kernel(modes, c[0], count)
    same, near_pairs, far_pairs, jump_pairs = low_rank_kernel(pairs, in_reals(c[0].conj()), count)
    torch.testing.assert_close(same, kernel)
    state = low_rank_state(pairs, u, near_pairs, jump_pairs, in_reals(start))
    torch.testing.assert_close(state, in_reals(low_rank_state(modes, u, near, jump, start)))
    heard = low_rank_response(pairs, far_pairs, in_reals(start), count)
    torch.testing.assert_close(heard, low_rank_response(modes, far, start, count))


def in_reals(modes: Tensor) -> Tensor:
    return torch.cat((modes.real, modes.imag), dim=-1)


def test_the_gelu_of_a_tanh_is_spelt_out_in_programs() -> None:
    """XNNPACK takes the error function in its place: RG-LRU differed by 1e-3 in ExecuTorch."""
    x = normal(1, 9, 4)
    program = exported(Activation(), (x,))
    assert not any("gelu" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), gelu_tanh(x))


class Activation(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return gelu_tanh(x)


@pytest.mark.parametrize("block", [S4(state_dim=2), MLSTM(num_heads=1, head_dim=4)])
def test_programs_have_operators_only_that_other_runtimes_have(block: Block) -> None:
    """The kernel of S4 was complex, and a running maximum is an operator of PyTorch alone."""
    mixer = block.build(4).eval()
    with torch.no_grad():
        mixer.reset_parameters(dice(0))
    x, empty = normal(1, 5, 4).float(), mixer.init_state(1, 8)
    program = exported(Prefill(mixer, empty), (x,))
    assert not any(word in str(node.target) for node in program.graph.nodes for word in ("fft", "cummax"))
    assert not any(node.meta["val"].is_complex() for node in program.graph.nodes if is_tensor(node))
    torch.testing.assert_close(program.module()(x), mixer(x, empty).y)


def is_tensor(node: torch.fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


class Prefill(torch.nn.Module):
    def __init__(self, mixer: torch.nn.Module, empty: dict[str, Tensor]) -> None:
        super().__init__()
        self.mixer, self.empty = mixer, empty

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.mixer(x, self.empty).y
        return found
