"""The largest value so far along an axis, also where a runtime has no operator for it.

Programs for other runtimes take it by doubling: after step i every place knows the largest of its last 2^i
values (Hillis and Steele 1986, "Data parallel algorithms"). Maxima are not rounded, so both are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor


def running_maximum(x: Tensor, dim: int) -> Tensor:
    """The largest of x up to each place along `dim`."""
    return running_maximum_doubled(x, dim) if torch.compiler.is_exporting() else x.cummax(dim).values


def running_maximum_doubled(x: Tensor, dim: int) -> Tensor:
    """The same by as many steps as the length has bits."""
    count, reach = x.shape[dim], 1
    while reach < count:
        later = torch.maximum(x.narrow(dim, reach, count - reach), x.narrow(dim, 0, count - reach))
        x = torch.cat((x.narrow(dim, 0, reach), later), dim=dim)
        reach *= 2
    return x
