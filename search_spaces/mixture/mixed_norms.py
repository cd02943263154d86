"""Norms in a mixture: the weighted sum of the norms that a network may have, at the widths that it may have.

Shapes: D the largest width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch.nn.functional as F
from torch import Tensor

from search_spaces.network.norms.base import Norm

WeightedNorms: TypeAlias = "Sequence[tuple[Norm, Tensor | None]]"
"""Norms with their shares; without a share, the only one."""

Use: TypeAlias = Callable[[Norm, Tensor, Mapping[str, Tensor]], Tensor]
"""One of `Norm.normalized`, `Norm.enter` and `Norm.leave`."""

WeightedWidths: TypeAlias = "Sequence[tuple[int, Tensor | None]]"
"""Widths with their shares; without a share, the only one."""


def mixed_norm(
    x: Tensor,
    norms: WeightedNorms,
    widths: WeightedWidths,
    *,
    vector: Callable[[str], Tensor],
    padded_to: int,
    use: Use = Norm.normalized,
) -> Tensor:
    """The mixture over norms and widths of x [..., D], padded to a width with zeros.

    `vector` gives a norm's parameter by name, at its largest shape; `use` is what is done with a norm.
    """
    mixed: Tensor | None = None
    for d_model, width_share in widths:
        for norm, norm_share in norms:
            names = norm.held if use is Norm.normalized else norm.sublayer_vectors
            part = use(norm, x[..., :d_model], {name: vector(name)[:d_model] for name in names})
            for share in (width_share, norm_share):
                part = part if share is None else share * part
            part = F.pad(part, (0, padded_to - d_model)) if d_model < padded_to else part
            mixed = part if mixed is None else mixed + part
    assert mixed is not None
    return mixed


def mixed_scores(x: Tensor, norms: WeightedNorms, widths: WeightedWidths, weight: Tensor) -> Tensor:
    """Scores [...] of x [..., D] by a router's weight [D], mixed over norms (without vectors) and widths."""
    mixed: Tensor | None = None
    for d_model, width_share in widths:
        for norm, norm_share in norms:
            part = norm.apply(x[..., :d_model], (d_model,)) @ weight[:d_model]
            for share in (width_share, norm_share):
                part = part if share is None else share * part
            mixed = part if mixed is None else mixed + part
    assert mixed is not None
    return mixed
