"""Products with the few inputs that 8 bits have no room for, added to the products with all others.

    y[m, n] += sum over the outliers k of x[m]:  x[m, k] w[n, k]

Dettmers et al. 2022 (LLM.int8), arXiv:2208.07339, section 3.2, where outliers are whole columns; here they
are single inputs. Mostly there are none. To ask the device whether there are would wait for
it, and cannot be recorded in a CUDA graph, so on a GPU a kernel looks up for every block of tokens and inputs
whether it has one, and passes over those that have none (`search_spaces.ops.kernels.outliers`).

Shapes: M tokens, K inputs, N outputs, G groups of inputs with a scale of their own.
"""

from __future__ import annotations

from torch import Tensor

from search_spaces.ops import dispatch

KERNEL = dispatch.register("products with outliers", "outliers")
SMALLEST_GROUP = 16
"""The fewest inputs that tensor cores sum at once, and so the smallest group that the kernel takes."""


def adds_outliers(x: Tensor, group: int) -> bool:
    """Whether `add_outliers` runs here, for weights with a scale for so many inputs."""
    whole = group >= x.shape[-1] or group % SMALLEST_GROUP == 0
    return whole and dispatch.runs(KERNEL, x)


def add_outliers(y: Tensor, x: Tensor, outlier: Tensor, codes: Tensor, scale: Tensor, *, group: int) -> None:
    """Add to y [M, N] in place what inputs x [M, K] give where `outlier` [M, K].

    The weights are `codes` [N, K], integers of 8 bits, times `scale` [N, G]; factors have the dtype of x, and
    sums are float32.
    """
    dispatch.load(KERNEL).add_outliers(y, x, outlier, codes, scale, min(group, x.shape[-1]))
