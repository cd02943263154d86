"""The loss of a large vocabulary: logits of some tokens at a time, so that those of all are never held.

    loss = chunked_loss(run, rows, x, targets, weights)

Logits of N tokens take N V numbers, and as much again for their softmax and their gradient: of a vocabulary
of 49,152, and 2,048 tokens, 1.2 GB in float32. Here each chunk's loss and gradients are computed together, in
the forward pass, and its logits are gone before the next chunk comes; nothing is computed twice. The backward
pass only scales.

After Cut Your Losses (Wijmans et al. 2025, arXiv:2411.09009) and Liger Kernel (Hsu et al. 2024,
arXiv:2410.10989, section 3.2), which do so in kernels of their own.

Shapes: N tokens, D d_model, V vocab.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from evaluators.tasks.base import IGNORED

AT_ONCE = 2**25
"""Logits that are held at a time: 128 MiB in float32."""

Run: TypeAlias = Callable[..., Tensor]
"""Summed nats of x [1, n, D] over targets [1, n], given weights."""


def rows_at_once(tokens: int, vocab: int) -> int:
    """How many tokens' logits are held at a time: all where they are few, else chunks of one size, if any."""
    chunks = -(-tokens * vocab // AT_ONCE)
    equal = next((count for count in range(chunks, 2 * chunks) if tokens % count == 0), chunks)
    return max(1, -(-tokens // equal))


def chunked_loss(run: Run, rows: int, x: Tensor, targets: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Mean loss in nats of x [..., D] over the targets [...] that are judged, `rows` tokens at a time."""
    nats: Tensor = _ChunkedLoss.apply(run, rows, x.reshape(-1, x.shape[-1]), targets.flatten(), *weights)
    return nats


class _ChunkedLoss(torch.autograd.Function):
    """x [N, D], targets [N]; gradients of x and of the weights are made beside the loss."""

    @staticmethod
    def forward(ctx: Any, run: Run, rows: int, x: Tensor, targets: Tensor, *weights: Tensor) -> Tensor:
        wanted = [ctx.needs_input_grad[2], *ctx.needs_input_grad[4:]]
        leaves = [weight.detach().requires_grad_(w) for weight, w in zip(weights, wanted[1:], strict=True)]
        judged, losses = (targets != IGNORED).sum(), list[Tensor]()
        of_x, of_weights = list[Tensor](), [torch.zeros_like(leaf) for leaf in leaves if leaf.requires_grad]
        for some, answers in zip(x.split(rows), targets.split(rows), strict=True):
            with torch.enable_grad():
                read = some.detach().requires_grad_(wanted[0])
                loss = run(read[None], answers[None], *leaves) / judged
            losses.append(loss.detach())
            if loss.requires_grad:
                learned = [leaf for leaf in (read, *leaves) if leaf.requires_grad]
                found = list(torch.autograd.grad(loss, learned))
                of_x += [found.pop(0)] if wanted[0] else []
                for total, part in zip(of_weights, found, strict=True):
                    total += part
        ctx.wanted = wanted
        ctx.save_for_backward(*([torch.cat(of_x)] if of_x else []), *of_weights)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        kept = iter(ctx.saved_tensors)
        x, *weights = (grad * next(kept) if wanted else None for wanted in ctx.wanted)
        return None, None, x, None, *weights
