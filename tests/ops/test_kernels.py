"""Triton kernels against the plain forms; most of it needs a GPU, and is skipped without one."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.ops import dispatch
from search_spaces.ops.decay_attention import decay_attention, decay_attention_plainly
from search_spaces.ops.delta_rule import delta_rule, delta_rule_plainly
from search_spaces.ops.experts import ExpertWeights, expert_mixture, expert_mixture_plainly
from search_spaces.ops.gated_attention import gated_attention, gated_attention_plainly
from search_spaces.ops.mlstm import mlstm, mlstm_plainly
from search_spaces.ops.scan import scan, scan_plainly
from search_spaces.ops.selective_scan import selective_scan, selective_scan_plainly
from search_spaces.ops.slstm import empty, slstm, slstm_plainly
from search_spaces.quantization.activations import round_activations
from search_spaces.quantization.products import IntegerMatrix, int8_activation_product

MATRICES = ("decay_attention", "delta_rule", "gated_attention", "mlstm")
"""Kernels of matrix products."""

KERNELS = (*MATRICES, "experts", "scan", "selective_scan", "slstm")
"""Kernels with a gradient."""

LENGTHS = (1, 63, 1000)
EXACT, SHORT, LOW = 2e-5, 1e-2, 4e-2
"""Errors in float32, with products in TF32, in bfloat16."""
interpreted = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None,
    reason="needs Triton 3.6 beside NumPy before 2.4, and TRITON_INTERPRET=1",
)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
pytestmark = pytest.mark.filterwarnings(
    "ignore:Attempting to run cuBLAS"
)  # in a thread that is new to the device

Function = Callable[..., tuple[Tensor, ...]]
Case = tuple[Function, Function, dict[str, Tensor]]


def test_without_cuda_the_plain_forms_run_and_say_why() -> None:
    found = {form.primitive: form for form in dispatch.forms("cpu")}
    assert len(found) == len((*KERNELS, "outliers"))
    assert all(not form.kernel and form.reason == "kernels are for CUDA" for form in found.values())
    assert not any(dispatch.runs(module, torch.ones(2, 3)) for module in KERNELS)


def test_kernels_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "plain")
    assert dispatch._verdict("scan", 0) == "switched off by NAS_KERNELS=plain"


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    dice = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, generator=dice, device="cuda").to(dtype)


def shares(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    dice = torch.Generator("cuda").manual_seed(seed)
    return torch.rand(*shape, generator=dice, device="cuda").to(dtype)


def scan_case(count: int, dtype: torch.dtype) -> Case:
    inputs = {"a": 0.7 + 0.3 * shares(2, count, 37), "b": drawn(2, count, 37), "start": drawn(2, 37)}
    return lambda *x: (scan(*x),), lambda *x: (scan_plainly(*x),), inputs


def decay_case(count: int, dtype: torch.dtype) -> Case:
    inputs = {
        "q": drawn(2, count, 1, 64, dtype=dtype) / 8,
        "k": drawn(2, count, 1, 64, dtype=dtype, seed=1),
        "v": drawn(2, count, 3, 40, dtype=dtype, seed=2),
        "g": -0.2 * shares(2, count, 3),
        "state": drawn(2, 3, 64, 40),
    }
    return lambda *x: decay_attention(*x, final=True), decay_attention_plainly, inputs


def delta_case(count: int, dtype: torch.dtype) -> Case:
    inputs = {
        "q": drawn(1, count, 2, 128, dtype=dtype) / 11,
        "k": F.normalize(drawn(1, count, 2, 128, seed=1), dim=-1).to(dtype),
        "v": drawn(1, count, 2, 64, dtype=dtype, seed=2),
        "b": shares(1, count, 2, dtype=dtype, seed=3),
        "g": -0.1 * shares(1, count, 2, seed=4),
        "state": drawn(1, 2, 128, 64, seed=5),
    }
    return (
        lambda *x: delta_rule(*x[:5], state=x[5], final=True),
        lambda *x: delta_rule_plainly(*x[:5], state=x[5]),
        inputs,
    )


def gated_case(count: int, dtype: torch.dtype) -> Case:
    g = -0.3 * shares(2, count, 3, 64)
    g[:, 64:] *= 40  # too strong for a chunk to be computed as one
    inputs = {
        "q": drawn(2, count, 3, 64, dtype=dtype) / 8,
        "k": drawn(2, count, 3, 64, dtype=dtype, seed=1),
        "v": drawn(2, count, 3, 40, dtype=dtype, seed=2),
        "g": g,
        "state": drawn(2, 3, 64, 40, seed=3),
        "bonus": drawn(3, 64, seed=4),
    }
    return (
        lambda *x: gated_attention(*x[:5], bonus=x[5], final=True),
        lambda *x: gated_attention_plainly(*x[:5], bonus=x[5]),
        inputs,
    )


def mlstm_case(count: int, dtype: torch.dtype) -> Case:
    inputs = {  # positive, so that no product is divided by what is left of ones that cancel
        "q": shares(2, count, 3, 64, dtype=dtype),
        "k": shares(2, count, 3, 64, dtype=dtype, seed=1) / 8,
        "v": drawn(2, count, 3, 40, dtype=dtype, seed=2),
        "w": 2 * drawn(2, count, 3, seed=3),
        "g": drawn(2, count, 3, seed=4).sigmoid().log(),
    }
    return lambda *x: mlstm(*x)[:1], lambda *x: mlstm_plainly(*x)[:1], inputs


def selective_case(count: int, dtype: torch.dtype) -> Case:
    inputs = {
        "u": drawn(2, count, 40),
        "dt": shares(2, count, 40),
        "a": -3 * shares(40, 12),
        "b": drawn(2, count, 12, seed=1),
        "c": drawn(2, count, 12, seed=2),
        "state": drawn(2, 40, 12),
    }
    return (
        lambda *x: selective_scan(*x[:4], c=x[4], state=x[5]),
        lambda *x: selective_scan_plainly(*x[:4], c=x[4], state=x[5]),
        inputs,
    )


def experts_case(count: int, dtype: torch.dtype) -> Case:
    logits = drawn(count, 5)
    index = logits.topk(2, dim=-1).indices
    inputs = {"x": drawn(count, 64, seed=1), "gates": logits.softmax(-1).gather(-1, index)}
    shapes = ((5, 48, 64), (5, 48, 64), (5, 64, 48))
    inputs |= {f"weight {i}": drawn(*shape, seed=2 + i) / 8 for i, shape in enumerate(shapes)}

    def ours(x: Tensor, gates: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return (expert_mixture(x, gates, index, ExpertWeights(*weights)),)

    def plain(x: Tensor, gates: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        return (expert_mixture_plainly(x, gates, index, ExpertWeights(*weights)),)

    return ours, plain, inputs


def slstm_case(count: int, dtype: torch.dtype) -> Case:
    inputs = {"u": drawn(3, count, 4, 2, 40), "recurrent": drawn(4, 2, 40, 40, seed=1) / 7}

    def ours(u: Tensor, recurrent: Tensor) -> tuple[Tensor, ...]:
        return (slstm(u, recurrent, empty(u), sigmoid=True)[0],)

    def plain(u: Tensor, recurrent: Tensor) -> tuple[Tensor, ...]:
        return (slstm_plainly(u, recurrent, empty(u), sigmoid=True)[0],)

    return ours, plain, inputs


CASES = {
    "scan": scan_case,
    "decay_attention": decay_case,
    "delta_rule": delta_case,
    "experts": experts_case,
    "gated_attention": gated_case,
    "mlstm": mlstm_case,
    "selective_scan": selective_case,
    "slstm": slstm_case,
}


def outcomes(function: Function, inputs: dict[str, Tensor], dtype: torch.dtype | None) -> list[Tensor]:
    """Outputs and gradients, of the inputs as they are or in another dtype."""
    leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs.values()]
    outputs = function(*leaves)
    slopes = [drawn(*y.shape, seed=9).to(y.dtype) for y in outputs]
    torch.autograd.backward(list(outputs), slopes)
    return [*outputs, *(leaf.grad for leaf in leaves)]


def worst(ours: list[Tensor], exact: list[Tensor]) -> float:
    """The largest difference over the largest value; a gradient of nothing but rounding (1e-16) is a zero."""
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(ours, exact, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in pairs)


@interpreted
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of sigmoids: it is how they get to zero
def test_kernels_around_experts_are_right_where_they_are_interpreted() -> None:
    kernel = importlib.import_module("search_spaces.ops.kernels.experts")
    assert max(kernel.errors(torch.device("cpu")).values()) <= kernel.TOLERANCE


@interpreted
def test_outliers_are_added_where_kernels_are_interpreted() -> None:
    kernel = importlib.import_module("search_spaces.ops.kernels.outliers")
    assert max(kernel.errors(torch.device("cpu")).values()) <= kernel.TOLERANCE


@gpu
def test_products_with_outliers_prove_themselves_and_are_recorded() -> None:
    assert dispatch._verdict("outliers", 0) == ""
    dice = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(33, 128, generator=dice)).to("cuda", torch.bfloat16)
    codes = torch.randint(-127, 128, (96, 128), generator=dice, dtype=torch.int8).cuda()
    matrix = IntegerMatrix(codes, torch.rand(96, 4, generator=dice).cuda(), 32)
    product = int8_activation_product(matrix)
    exact = round_activations(x, "int").double() @ matrix.values(torch.float64).T
    expected = product(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = product(x)
    graph.replay()
    assert torch.equal(y, expected)
    assert float((y - exact).norm() / exact.norm()) < SHORT  # rounded inputs are of bfloat16 there


@interpreted
@pytest.mark.parametrize("name", MATRICES)
def test_kernels_are_right_where_they_are_interpreted(name: str) -> None:
    kernel = importlib.import_module(f"search_spaces.ops.kernels.{name}")
    assert max(kernel.errors(torch.device("cpu"), torch.float32, 32, 16).values()) <= EXACT


@interpreted
def test_decays_of_one_sequence_are_those_of_all() -> None:
    """Constant decays have no axis of the batch; where that was written out, a kernel read behind its end."""
    kernel = importlib.import_module("search_spaces.ops.kernels.decay_attention")
    dice = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 70, 2, 16, generator=dice) for _ in range(3))
    g = -torch.rand(1, 70, 2, generator=dice)
    assert g.stride(0) > 0
    y = kernel.decay_attention(q, k, v, g, None)[0]
    torch.testing.assert_close(y, decay_attention_plainly(q, k, v, g)[0], rtol=1e-4, atol=1e-4)


@interpreted
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # of tokens that do not see each other
@pytest.mark.parametrize("bonus", [False, True])
@pytest.mark.parametrize("decay", [0.0, -1.24, -1.26, -1e4, -1e30])
def test_a_channel_may_decay_by_anything_where_kernels_are_interpreted(decay: float, bonus: bool) -> None:
    kernel = importlib.import_module("search_spaces.ops.kernels.gated_attention")
    dice = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(1, 70, 1, 16, generator=dice) for name in ("q", "k", "v", "g")}
    inputs["g"] = (
        torch.where(inputs["g"] > 2, decay, -0.01) if decay < -1e3 else torch.full_like(inputs["g"], decay)
    )
    inputs["state"] = torch.randn(1, 1, 16, 16, generator=dice)
    if bonus:
        inputs["bonus"] = torch.randn(1, 16, generator=dice)
    plain = lambda *x: gated_attention_plainly(*x[:5], bonus=x[5] if bonus else None)  # noqa: E731
    tiles = importlib.import_module("search_spaces.ops.kernels.tiles")
    assert max(tiles.relative_errors(kernel._read, plain, inputs).values()) <= EXACT


@gpu
@pytest.mark.parametrize("name", KERNELS)
def test_kernels_prove_themselves(name: str) -> None:
    assert dispatch._verdict(name, 0) == ""
    kernel = importlib.import_module(f"search_spaces.ops.kernels.{name}")
    assert max(kernel.errors(torch.device("cuda")).values()) <= kernel.TOLERANCE


@gpu
@pytest.mark.parametrize("name", KERNELS)
def test_outputs_and_gradients_are_those_of_the_recurrence(name: str) -> None:
    ours, plain, inputs = CASES[name](63, torch.float32)
    assert worst(outcomes(ours, inputs, None), outcomes(plain, inputs, torch.float64)) < EXACT


@gpu
@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("name", KERNELS)
def test_any_length_in_tf32(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    ours, _, inputs = CASES[name](min(count, 200) if name == "slstm" else count, torch.float32)
    # no kernel takes float64: that is the chunked form, which other tests hold against the recurrence
    assert worst(outcomes(ours, inputs, None), outcomes(ours, inputs, torch.float64)) < SHORT


@gpu
@pytest.mark.parametrize("name", MATRICES)
def test_bfloat16(name: str) -> None:
    ours, _, inputs = CASES[name](200, torch.bfloat16)
    assert worst(outcomes(ours, inputs, None), outcomes(ours, inputs, torch.float64)) < LOW


@gpu
@pytest.mark.filterwarnings("ignore:`torch.jit.script")  # the compiler's own, in some versions
@pytest.mark.parametrize("name", KERNELS)
def test_results_repeat_bit_for_bit_and_compile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    ours, _, inputs = CASES[name](130, torch.float32)
    first, again = outcomes(ours, inputs, None), outcomes(ours, inputs, None)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    torch.compiler.reset()
    compiled = outcomes(torch.compile(ours, dynamic=False), inputs, None)  # the plain form, fused
    assert worst(compiled, first) < SHORT


@gpu
@pytest.mark.parametrize("name", MATRICES)
def test_slices_of_larger_tensors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    ours, _, inputs = CASES[name](70, torch.float32)
    sliced = {
        key: F.pad(x, (0, 5, 0, 2))[..., : x.shape[-2], : x.shape[-1]] if x.ndim == 4 else x
        for key, x in inputs.items()
    }
    with torch.no_grad():
        straight, strided = ours(*inputs.values()), ours(*sliced.values())
    assert all(torch.equal(a, b) for a, b in zip(straight, strided, strict=True))


@gpu
@pytest.mark.parametrize("name", KERNELS)
def test_they_replay_in_cuda_graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    # products of groups are one kernel in bfloat16; in float32 PyTorch asks the device how long groups are
    ours, _, inputs = CASES[name](100, torch.bfloat16 if name == "experts" else torch.float32)
    with torch.no_grad():
        expected = ours(*inputs.values())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = ours(*inputs.values())
        graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(captured, expected, strict=True))


@gpu
@pytest.mark.parametrize("name", KERNELS)
def test_other_lengths_compile_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    compiled: list[str] = []
    # all even: 3 heads of 40 channels of an odd count of tokens are no multiple of 16, and are read otherwise
    for count in (200, 2, 62, 500):
        ours, _, inputs = CASES[name](count, torch.float32)
        outcomes(ours, inputs, None)
        if count == 200:
            runtime = importlib.import_module("triton").knobs.runtime
            monkeypatch.setattr(runtime, "jit_cache_hook", lambda **about: compiled.append(about["repr"]))
    assert compiled == []


@gpu
def test_a_state_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    ours, _, inputs = CASES["delta_rule"](150, torch.float32)
    *parts, state = inputs.values()
    with torch.no_grad():
        whole, last = ours(*parts, state)
        early, middle = ours(*(x[:, :83] for x in parts), state)
        late, end = ours(*(x[:, 83:] for x in parts), middle)
    torch.testing.assert_close(torch.cat((early, late), dim=1), whole, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(end, last, rtol=1e-2, atol=1e-2)
