"""Fused kernels for patterns of attention on a GPU, used where they were verified in this process.

    enable("cuda")      # {"windowed attention": "FlexAttention", "block-sparse attention": "FlexAttention"}

PyTorch's FlexAttention (`torch.nn.attention.flex_attention`) computes any pattern of whole blocks in one
kernel, without gathering keys, but it must be compiled together with the code around it. So our forms call it
only while they are compiled for CUDA, and only after `enable`, which compares each kernel with the plain form
and returns which path is taken, or why not. Without it the plain forms are compiled.

Shapes: B batch, T tokens, H heads, G kv heads, K head_dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from search_spaces.ops import assembler
from search_spaces.ops.dispatch import Form

KERNEL = "FlexAttention"
BLOCK = 128
"""Tokens of the blocks that the kernel skips or computes."""

TOLERANCE = 2e-2
"""Of the largest output, in bfloat16."""

paths: dict[str, str] = {}
"""By form of ours: the kernel that is used, or why none is."""

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Outputs [B, H, T, K] of queries [B, H, T, K] over keys and values [B, G, T, K]."""

forms: dict[str, tuple[Attend, Attend]] = {}
"""By name: a form of ours that calls the kernel where `uses` says so, and the plain one that proves it."""

Seen = Callable[[Tensor, Tensor], Tensor]
"""Whether a token at a position of a query sees the one at a position of a key; positions broadcast."""


NAMES = tuple(f"{of}_{what}" for of in ("kv", "full_kv", "q", "full_q") for what in ("num_blocks", "indices"))
"""What a mask by blocks is made of, as FlexAttention names it."""

Layout = tuple[Tensor, ...]
"""The tensors of these names, [1, 1, C, ...] for C blocks of tokens."""


def calls_kernel(name: str, q: Tensor) -> bool:
    """Whether this form calls the kernel for these queries [B, H, T, K]."""
    if not torch.compiler.is_dynamo_compiling() or paths.get(name) != KERNEL:
        return False
    width = q.shape[-1]
    return q.is_cuda and width >= 16 and width & (width - 1) == 0


def attend_in_layout(q: Tensor, k: Tensor, v: Tensor, seen: Seen, layout: Layout) -> Tensor:
    """Outputs [B, H, T, K] by the kernel; `layout` is made by `block_layout` for the same pattern."""
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    size: dict[str, Any] = {"seq_lengths": (q.shape[2], k.shape[2]), "BLOCK_SIZE": (BLOCK, BLOCK)}
    parts: dict[str, Any] = {name: layout[i] for i, name in enumerate(NAMES)}
    mask = BlockMask(**size, **parts, mask_mod=lambda batch, head, query, key: seen(query, key))
    y: Tensor = flex_attention(q, k, v, block_mask=mask, enable_gqa=k.shape[1] != q.shape[1])
    return y


def block_layout(seen: Seen, count: int, device: torch.device) -> Layout:
    """Which blocks of keys each block of queries sees in part, and which as a whole; then the same by keys.

    To be made once: it takes longer than the kernel.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    with torch.inference_mode(False):  # what is made once must do for training as well
        mask = create_block_mask(
            lambda batch, head, query, key: seen(query, key),
            None,
            None,
            count,
            count,
            device=str(device),
            BLOCK_SIZE=BLOCK,
        )
    return tuple(getattr(mask, name) for name in NAMES)


def described(device: str) -> list[Form]:
    """What runs of each pattern on a device, and why."""
    usual = f"{KERNEL} is for what is compiled behind search_spaces.ops.fused.enable"
    reason = usual if device.startswith("cuda") else f"{KERNEL} is for CUDA"
    return [Form(name, False, paths.get(name, reason)) for name in forms]


def enable(device: str = "cuda") -> dict[str, str]:
    """Compare the kernels with the plain forms on a device, use those that agree; return the path of each."""
    for name, (form, plain) in forms.items():
        if not device.startswith("cuda"):
            paths[name] = f"plain: {KERNEL} is for CUDA"
        elif paths.get(name) != KERNEL:
            paths[name] = KERNEL
            paths[name] = _verified(form, plain, device)
    return dict(paths)


def _verified(form: Attend, plain: Attend, device: str) -> str:
    """The kernel's name where it agrees with the plain form, else why it is not used."""
    dice = torch.Generator(device).manual_seed(0)

    def drawn(heads: int) -> Tensor:
        return torch.randn(2, heads, 300, 64, device=device, dtype=torch.bfloat16, generator=dice)

    q, k, v = drawn(4), drawn(2), drawn(2)
    assembler.prepare(device)
    try:
        compiled: Any = torch.compile(form, dynamic=False)
        error = float((compiled(q, k, v) - plain(q, k, v)).abs().max())
    except (RuntimeError, ImportError, TypeError, ValueError) as reason:  # compilers raise all of these
        return f"plain: {KERNEL} does not run here: {type(reason).__name__}: {str(reason)[:200]}"
    worst = TOLERANCE * float(plain(q, k, v).abs().max())
    return KERNEL if error <= worst else f"plain: {KERNEL} is off by {error:.2g}"
