"""What every block promises (see `search_spaces.blocks.base`), shown for each example of each kind."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Mixer, State, blocks
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.walk import closed_values
from search_spaces.scenario import Scenario
from tests.blocks.filled import dice, filled

D_MODEL = 20
LENGTHS = (1, 2, 7, 63, 64, 65)
EXAMPLES = [spec for kind in blocks.values() for spec in kind.examples()]
SEQUENCE = [spec for spec in EXAMPLES if spec.mixes == "sequence"]
FIRST = [kind.examples()[0] for kind in blocks.values()]


def built(spec: Block, d_model: int = D_MODEL, dtype: torch.dtype = torch.float64) -> Mixer:
    spec.check(d_model)
    return filled(spec, d_model, noise=0.1, dtype=dtype)


def inputs(batch: int, count: int, d_model: int = D_MODEL, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, count, d_model, generator=dice(2), dtype=dtype)


def steps(module: Mixer, x: Tensor, state: State, first: int, on_device: bool) -> tuple[Tensor, State]:
    outputs = []
    for t in range(x.shape[1]):
        position = torch.tensor(first + t) if on_device else first + t
        y, state = module.step(x[:, t], state, position)
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


@pytest.mark.parametrize("on_device", [False, True], ids=["int", "tensor"])
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
@torch.no_grad()
def test_decoding_token_by_token_equals_prefill(spec: Block, on_device: bool) -> None:
    module, x = built(spec), inputs(3, max(LENGTHS))
    decoded, _ = steps(module, x, module.init_state(3, max(LENGTHS)), 0, on_device)
    for count in LENGTHS:
        for batch in (1, 3):
            read = module(x[:batch, :count]).y
            torch.testing.assert_close(read, decoded[:batch, :count], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("on_device", [False, True], ids=["int", "tensor"])
@pytest.mark.parametrize("capacity", [77, 200])
@pytest.mark.parametrize("spec", SEQUENCE, ids=str)
@torch.no_grad()
def test_a_state_is_handed_over_in_mid_sequence(spec: Block, capacity: int, on_device: bool) -> None:
    module, x = built(spec), inputs(2, 77)
    whole = module(x).y
    head = module(x[:, :37], module.init_state(2, capacity), 0)
    middle, state = steps(module, x[:, 37:45], head.state or {}, 37, on_device)
    tail = module(x[:, 45:65], state, 45)
    last = module(x[:, 65:66], tail.state, 65)
    end, _ = steps(module, x[:, 66:], last.state or {}, 66, on_device)
    pieces = torch.cat((head.y, middle, tail.y, last.y, end), dim=1)
    torch.testing.assert_close(pieces, whole, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", SEQUENCE, ids=str)
@torch.no_grad()
def test_a_state_stays_as_it_was_allocated(spec: Block) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module = built(spec, dtype=dtype)
        empty = module.init_state(2, 5)
        exact = torch.promote_types(dtype, torch.float32)
        layout = {
            name: (shape.allocated(2, 5), exact if shape.exact else dtype)
            for name, shape in spec.state(D_MODEL).items()
        }
        assert {name: (tuple(t.shape), t.dtype) for name, t in empty.items()} == layout
        state = module(inputs(2, 3, dtype=dtype), empty, 0).state or {}
        _, state = module.step(inputs(2, 1, dtype=dtype)[:, 0], state, 3)
        assert {name: (tuple(t.shape), t.dtype) for name, t in state.items()} == layout


@pytest.mark.parametrize("spec", SEQUENCE, ids=str)
@torch.no_grad()
def test_a_state_holds_no_more_memory_than_its_own(spec: Block) -> None:
    module = built(spec)
    state = module(inputs(1, 65), module.init_state(1, 65), 0).state or {}
    assert all(t.untyped_storage().nbytes() <= 2 * t.numel() * t.itemsize for t in state.values())


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
@torch.no_grad()
def test_no_token_sees_its_future(spec: Block) -> None:
    module, x = built(spec), inputs(2, 70)
    changed = x.clone()
    changed[:, 41:] += 1
    torch.testing.assert_close(module(x).y[:, :41], module(changed).y[:, :41], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spec", SEQUENCE, ids=str)
@torch.no_grad()
def test_a_sequence_mixer_lets_a_token_see_its_past(spec: Block) -> None:
    module, x = built(spec), inputs(1, 3)
    changed = x.clone()
    changed[:, 0] += 1
    assert not torch.allclose(module(x).y[:, 1:], module(changed).y[:, 1:])


@pytest.mark.parametrize("d_model", [1, 16, 21])
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_cost_counts_what_build_allocates(spec: Block, d_model: int) -> None:
    module = spec.build(d_model)
    assert spec.cost(d_model, Scenario()).params == sum(p.numel() for p in module.parameters())
    assert not list(module.buffers())


def fused_attention(q: Any, k: Any, v: Any, dropout: float = 0.0, causal: bool = False, **rest: Any) -> int:
    """FLOPs of the fused kernel, which PyTorch's counter does not know; it skips the future."""
    batch, heads, count, width = q
    return 4 * batch * heads * width * (count * (count + 1) // 2 if causal else count * k[2])


FUSED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused_attention}


@pytest.mark.parametrize("prompt", [40, 64, 128])
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
@torch.no_grad()
def test_cost_counts_what_prefill_and_step_compute(spec: Block, prompt: int) -> None:
    module = built(spec, dtype=torch.float32)
    scenario = Scenario(batch=2, prompt=prompt, new_tokens=6)
    cost, state = spec.cost(D_MODEL, scenario), module.init_state(2, scenario.context)
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        module(inputs(2, prompt, dtype=torch.float32), state, 0)
    assert counter.get_total_flops() == cost.prefill_flops
    with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
        module.step(inputs(2, 1, dtype=torch.float32)[:, 0], state, scenario.decode_position)
    assert counter.get_total_flops() == cost.decode_flops


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_flops_grow_with_batch_and_prompt(spec: Block) -> None:
    single = spec.cost(D_MODEL, Scenario(batch=1, prompt=64))
    four = spec.cost(D_MODEL, Scenario(batch=4, prompt=64))
    # what is computed once for the whole batch, such as a kernel, does not grow
    assert 2 * single.prefill_flops < four.prefill_flops <= 4 * single.prefill_flops
    assert single.decode_flops < four.decode_flops <= 4 * single.decode_flops
    longer = spec.cost(D_MODEL, Scenario(batch=1, prompt=128))
    assert 1.5 * single.prefill_flops <= longer.prefill_flops <= 4 * single.prefill_flops
    assert 0 < single.decode_flops < single.prefill_flops


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_parameters_are_filled_from_the_dice_alone(spec: Block) -> None:
    def values(seed: int) -> list[Tensor]:
        module = spec.build(D_MODEL)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
            module.reset_parameters(dice(seed))
        return [parameter.detach() for parameter in module.parameters()]

    before = torch.get_rng_state()
    first, again, next_seed = values(0), values(0), values(1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.isfinite().all() for parameter in first)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, next_seed))


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_every_parameter_gets_a_finite_gradient(spec: Block) -> None:
    module = built(spec, dtype=torch.float32)
    mixed = module(inputs(2, 33, dtype=torch.float32))
    loss = mixed.y.square().mean() + (0 if mixed.loss is None else mixed.loss)
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("spec", FIRST, ids=str)
def test_gradients_are_right(spec: Block) -> None:
    module = built(spec, d_model=4)
    names = [name for name, _ in module.named_parameters()]
    values = [parameter.detach().clone().requires_grad_() for parameter in module.parameters()]

    def outputs(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(module, dict(zip(names, values, strict=True)), (x,)).y

    x = inputs(1, 3, d_model=4).requires_grad_()
    assert torch.autograd.gradcheck(outputs, (x, *values), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
@torch.no_grad()
def test_a_leading_slice_computes_what_its_copy_computes(spec: Block, dtype: torch.dtype) -> None:
    with torch.device("meta"):
        module = spec.build(D_MODEL)
    parameters = {name: torch.empty(p.shape) for name, p in module.named_parameters()}
    views, copies = {}, {}
    for name, parameter in parameters.items():
        large = torch.randn([size + 3 for size in parameter.shape], generator=dice(3)).to(dtype) * 0.3
        views[name] = large[tuple(slice(size) for size in parameter.shape)]
        copies[name] = views[name].clone(memory_format=torch.contiguous_format)
    x = inputs(2, 19, dtype=dtype)
    sliced = functional_call(module, views, (x,), tie_weights=False).y
    copied = functional_call(module, copies, (x,), tie_weights=False).y
    assert torch.equal(sliced, copied)
    assert sliced.isfinite().all()


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
@torch.no_grad()
def test_bfloat16_is_near_float32(spec: Block) -> None:
    exact, x = built(spec, dtype=torch.float32), inputs(2, 70, dtype=torch.float32)
    x = x.bfloat16().float()
    rough = built(spec, dtype=torch.bfloat16)
    for parameter, rounded in zip(exact.parameters(), rough.parameters(), strict=True):
        parameter.copy_(rounded)
    expected, got = exact(x).y, rough(x.bfloat16()).y
    assert got.dtype == torch.bfloat16
    error = (got.float() - expected).abs()
    # a router may send a token elsewhere for a rounding error: most tokens must be near, not all
    near = (error.amax(-1) < 0.05 * expected.abs().max()).float().mean()
    assert near > (0.9 if spec.mixes == "channels" else 0.999)


@pytest.mark.parametrize("spec", SEQUENCE, ids=str)
@torch.no_grad()
def test_decoding_in_bfloat16_drifts_no_further_than_prefill(spec: Block) -> None:
    exact, rough = built(spec), built(spec, dtype=torch.bfloat16)
    for parameter, rounded in zip(exact.parameters(), rough.parameters(), strict=True):
        parameter.copy_(rounded)
    x = inputs(2, 300, dtype=torch.bfloat16)
    expected = exact(x.double()).y
    decoded, _ = steps(rough, x, rough.init_state(2, 300), 0, on_device=False)
    errors = [(got.double() - expected).square().mean().sqrt() for got in (rough(x).y, decoded)]
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("spec", EXAMPLES, ids=str)
def test_what_was_read_without_gradients_can_be_learned_from_later(spec: Block) -> None:
    module = built(spec, dtype=torch.float32)
    x = inputs(1, 11, dtype=torch.float32)
    with torch.inference_mode():
        module(x)
    module(x).y.sum().backward()


def test_an_rglru_that_forgets_nothing_can_still_learn() -> None:
    module = built(RGLRU(num_heads=2, head_dim=8), dtype=torch.float32)
    with torch.no_grad():
        module.get_parameter("decay").fill_(-200.0)
    module(inputs(1, 5, dtype=torch.float32)).y.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("kind", list(blocks))
def test_fields_may_be_left_open(kind: str) -> None:
    spec = blocks[kind].examples()[0]
    for field in fields(spec):
        replace(spec, **{field.name: one_of(1, 2)})


@pytest.mark.parametrize("kind", list(blocks))
def test_open_forms_close_to_legal_blocks_each_once(kind: str) -> None:
    closed = [block for form in blocks[kind].open_forms() for block in closed_values(form)]
    for block in closed:
        assert type(block) is blocks[kind]
        block.check(64)
    assert len(set(closed)) == len(closed)


ILLEGAL: list[tuple[Block, dict[str, Any], str]] = [
    (Attention(), {"num_heads": 0}, "num_heads"),
    (Attention(), {"num_heads": 4, "num_kv_heads": 3}, "multiple of num_kv_heads"),
    (Attention(), {"head_dim": 7}, "even"),
    (Attention(), {"head_dim": True}, "head_dim"),
    (Attention(), {"window": 0}, "window"),
    (GatedLinearAttention(), {"state_dim": -1}, "state_dim"),
    (GatedLinearAttention(), {"head_dim": 2.0}, "head_dim"),
    (Mamba2(), {"state_dim": "16"}, "state_dim"),
    (Mamba2(), {"conv_kernel": 0}, "conv_kernel"),
    (RGLRU(), {"num_heads": None}, "num_heads"),
    (ShortConv(), {"kernel": 1}, "kernel"),
    (SwiGLU(), {"expansion": 0}, "expansion"),
    (SwiGLU(), {"expansion": -1.5}, "expansion"),
    (SwiGLU(), {"expansion": "3"}, "expansion"),
    (SwiGLU(), {"expansion": float("nan")}, "expansion"),
    (SwiGLU(), {"expansion": float("inf")}, "expansion"),
    (MoE(), {"num_experts": 2, "top_k": 3}, "top_k"),
    (MoE(), {"top_k": 0}, "top_k"),
    (MoE(), {"expansion": float("nan")}, "expansion"),
    (MoE(), {"balance": -0.1}, "balance"),
]


@pytest.mark.parametrize(("spec", "changes", "word"), ILLEGAL, ids=lambda part: str(part))
def test_illegal_values_are_refused_by_name(spec: Block, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(IllegalArchitecture, match=word):
        replace(spec, **changes).check(D_MODEL)
