"""Costs: `cost` counts what `build` allocates, and what `forward` and `step` compute."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from foundation.errors import IllegalArchitecture
from search_spaces.block_contract.promise import BrokenPromise, Subject, promise
from search_spaces.scenario import Scenario

WIDTHS = (1, 16, 21)
"""Further widths at which parameters are counted, where the block can have them."""


@promise(quick=True)
def cost_counts_what_build_allocates(subject: Subject) -> None:
    """`cost(...).params` is the number of scalars in all parameters; there are no buffers."""
    for width in (subject.d_model, *WIDTHS):
        if width != subject.d_model and not _possible(subject, width):
            continue
        with torch.device("meta"):
            module = subject.spec.build(width)
        said = subject.spec.cost(width, Scenario()).params
        allocated = sum(parameter.numel() for parameter in module.parameters())
        if said != allocated:
            raise BrokenPromise(
                f"cost says {said} parameters at d_model={width}, build allocates {allocated}"
            )
        if buffers := [name for name, _ in module.named_buffers()]:
            raise BrokenPromise(f"buffers are not exported or sliced: make {', '.join(buffers)} a parameter")


@promise(quick=True)
@torch.no_grad()
def cost_counts_what_prefill_and_step_compute(subject: Subject) -> None:
    """FLOPs are 2 per multiply-add of matrix products, as PyTorch's counter counts them."""
    module = subject.built(torch.float32)
    for prompt in (40, 64, 128):
        scenario = Scenario(batch=2, prompt=prompt, new_tokens=6)
        cost, state = subject.spec.cost(subject.d_model, scenario), module.init_state(2, scenario.context)
        with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
            module(subject.inputs(2, prompt, torch.float32), state, 0)
        _equal("prefill_flops", cost.prefill_flops, counter.get_total_flops(), scenario)
        with FlopCounterMode(display=False, custom_mapping=FUSED) as counter:
            module.step(subject.inputs(2, 1, torch.float32)[:, 0], state, scenario.decode_position)
        _equal("decode_flops", cost.decode_flops, counter.get_total_flops(), scenario)


def fused_attention(q: Any, k: Any, v: Any, dropout: float = 0.0, causal: bool = False, **rest: Any) -> int:
    """FLOPs of the fused kernel, which PyTorch's counter does not know; it skips the future."""
    batch, heads, count, width = q
    return 4 * batch * heads * width * (count * (count + 1) // 2 if causal else count * k[2])


FUSED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: fused_attention}
"""What PyTorch's counter is told."""


def _equal(name: str, said: int, counted: int, scenario: Scenario) -> None:
    if said != counted:
        raise BrokenPromise(
            f"cost says {name}={said} for batch {scenario.batch}, prompt {scenario.prompt};"
            f" counted are {counted}"
        )


def _possible(subject: Subject, d_model: int) -> bool:
    try:
        subject.spec.check(d_model)
    except IllegalArchitecture:
        return False
    return True
