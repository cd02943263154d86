"""What kernels over chunks of tokens share: tiles of strided tensors, decays, sizes.

Shapes: L tokens of a chunk, N state_dim, P head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from search_spaces.ops.kernels.tuning import untuned

CHUNK = 64
LARGEST = 128
"""The most channels of a head that a tile holds."""

COUNTS = ("count", "heads", "batch", "chunks", "segments", "total")
ROWS = ("gb", "gt", "gh", "bb", "bt", "bh")
"""Parameters for whose values a kernel is not compiled anew, so that another length costs no compilation.

All others tell the compiler how memory is aligned; that depends on the length where the channels of all
heads are no multiple of 16. `ROWS` are strides of what has one number for a token.
"""


@triton.jit
def load_tile(base, token, count, step, column, width):
    """Rows `token` and columns `column` of a matrix with rows `step` apart; zero outside."""
    at = token[:, None].to(tl.int64) * step + column[None, :]
    return tl.load(base + at, mask=(token < count)[:, None] & (column < width)[None, :], other=0.0)


@triton.jit
def load_row(base, token, count, step):
    """Entries `token` of a vector with entries `step` apart, in float32; zero outside."""
    return tl.load(base + token.to(tl.int64) * step, mask=token < count, other=0.0).to(tl.float32)


@triton.jit
def store_tile(base, token, count, step, column, width, values):
    """Write rows and columns of a matrix, as `load_tile` reads them."""
    at = token[:, None].to(tl.int64) * step + column[None, :]
    mask = (token < count)[:, None] & (column < width)[None, :]
    tl.store(base + at, values.to(base.dtype.element_ty), mask=mask)


@triton.jit
def kept(sums, L: tl.constexpr):
    """What token i keeps of token j <= i [L, L], from running sums of logarithms; zero for j > i."""
    i = tl.arange(0, L)
    # the future would overflow: it is held at one, then dropped
    ages = tl.exp(tl.minimum(sums[:, None] - sums[None, :], 0.0))
    return tl.where(i[:, None] >= i[None, :], ages, 0.0)


@triton.jit
def compose(a, b, a_next, b_next):
    """Two steps h -> a h + b, one after the other, as one step."""
    return a_next * a, a_next * b + b_next


def steps(x: Tensor) -> tuple[int, int, int]:
    """Strides of batch, token and head of [B, T, H, ...]; a single sequence or head is read by all."""
    return 0 if x.shape[0] == 1 else x.stride(0), x.stride(1), 0 if x.shape[2] == 1 else x.stride(2)


def with_rows(x: Tensor) -> Tensor:
    """The tensor with its last axis in one piece; slices of a larger tensor mostly have it so."""
    return x if x.stride(-1) == 1 else x.contiguous()


def unwritten(*parts: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """Memory in one piece for what has these shapes, in their dtypes or in another."""
    return tuple(x.new_empty(x.shape, dtype=dtype or x.dtype) for x in parts)


def padded(size: int) -> int:
    """The tile that holds so many channels: a power of two that tensor cores take."""
    return max(16, triton.next_power_of_2(size))


def precision(x: Tensor) -> str:
    """How float32 products are computed: as PyTorch was told to for its own."""
    return "ieee" if x.dtype is torch.float32 and not torch.backends.cuda.matmul.allow_tf32 else "tf32"


class Dice:
    """Random numbers of one seed on a device, in float32: what kernels prove themselves on."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.generator = device, torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        """From the normal distribution."""
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Between 0 and 1."""
        return torch.rand(*shape, generator=self.generator, device=self.device)


def relative_errors(
    kernel: Callable[..., Sequence[Tensor]],
    plain: Callable[..., Sequence[Tensor]],
    inputs: dict[str, Tensor],
) -> dict[str, float]:
    """Per output and gradient, the largest difference from the plain form in float64, over its largest."""
    exact = {name: part.double() for name, part in inputs.items()}
    with untuned():
        outcomes = [_outcomes(kernel, inputs), _outcomes(plain, exact)]
    names = [f"output {i}" for i in range(len(outcomes[0]) - len(inputs))]
    errors = {}
    for name, ours, exact in zip([*names, *(f"gradient of {n}" for n in inputs)], *outcomes, strict=True):
        difference = (ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-30)
        errors[name] = float(difference) if bool(torch.isfinite(ours).all()) else float("inf")
    return errors


def _outcomes(function: Callable[..., Sequence[Tensor]], inputs: dict[str, Tensor]) -> list[Tensor]:
    """Outputs and gradients."""
    leaves = [part.detach().requires_grad_() for part in inputs.values()]
    outputs = list(function(*leaves))
    dice = torch.Generator(outputs[0].device).manual_seed(1)
    slopes = [torch.randn(y.shape, generator=dice, device=y.device).to(y.dtype) for y in outputs]
    torch.autograd.backward(outputs, slopes)
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    return [y.detach() for y in outputs] + gradients
