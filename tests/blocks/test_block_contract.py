"""What every block promises (see `search_spaces.blocks.base`), shown for each example of each kind."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.block_contract.check import BlockCheck, block_checks
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, Mixer, blocks
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


EXPORT = "prefill and step can be exported"
CHECKS = [
    check
    for kind in blocks.values()
    for check in block_checks(kind)
    # a second or more each: the first example of a kind
    if check.promise.name != EXPORT or check.subject.spec == kind.examples()[0]
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_every_promise_is_kept(check: BlockCheck) -> None:
    check()


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
