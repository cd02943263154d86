"""What every parameter does, and how its rate and its start follow the width, so that rates transfer.

A matrix sums over its inputs, so what a step of a given rate changes grows with their number, its fan-in. A
gain, a bias, a decay or a tap works entry by entry, and does not feel the width (`Role`).

Blocks state the rate at which they learn best at the base width. This is how it is carried to another one,
for Adam and whatever else makes steps of one size (maximal-update parametrization, Yang et al. 2022,
arXiv:2203.03466, tables 3 and 8, in a form without multipliers in the forward pass):

    matrix        initial variance 1 / fan_in, rate times w(fan_in)
    embedding     rows of norm one, read times sqrt(D); rate times sqrt(w(D))
    readout gain  starts at sqrt(w(D)), rate times sqrt(w(D)): the tied head then says as much at every width
    elementwise   as at the base

with w(n) = 64 / n from the base on, and 1 below it: narrow matrices are not sped up. Without the readout
gain, a token predicts itself with a logit of sqrt(D) before anything is learned.

Depth has no factor: sublayers read a normed stream, which grows as they add to it, so the share of each falls
by itself. The best rates of attention and Mamba-2 were the same with 4 and 12 layers; outputs scaled by
1/sqrt(depth) or 1/depth (Dey et al. 2025, arXiv:2505.01618) brought them no closer, and at width 512 cost
attention of 12 layers 0.03 and 0.09 bits per byte (docs/decisions/0045).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BASE_WIDTH = 64
"""The width at which blocks' rates were found."""


@dataclass(frozen=True)
class Role:
    """What a parameter does.

    * matrix: each output sums `fan_in` inputs, which are its last `input_axes` axes; entries of its first
      `stacked_axes` are matrices of their own (experts);
    * embedding: rows of `fan_in` channels, which are read, and as the tied head are summed over;
    * readout: a gain or bias in front of the tied head, of `fan_in` channels;
    * elementwise: all else.
    """

    kind: Literal["matrix", "embedding", "readout", "elementwise"] = "elementwise"
    fan_in: int = 1
    input_axes: int = 1
    stacked_axes: int = 0

    @property
    def decays(self) -> bool:
        """Whether weight decay is for it."""
        return self.kind in ("matrix", "embedding")


ELEMENTWISE = Role()


def share_of(channels: int) -> float:
    """w(n): 64 / n, at most 1."""
    return min(1.0, BASE_WIDTH / channels)


def scaled_rate(rate: float, role: Role) -> float:
    """The rate of a parameter whose block learns at `rate` at the base width."""
    if role.kind == "elementwise":
        return rate
    share = share_of(role.fan_in)
    return rate * share if role.kind == "matrix" else rate * share**0.5


def readout_start(d_model: int) -> float:
    """What the gain in front of the tied head starts with, of its usual value."""
    return share_of(d_model) ** 0.5
