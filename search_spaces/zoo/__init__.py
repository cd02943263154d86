"""Published architectures as points of one space, one file each.

Each is written in a few lines of our blocks, in the proportions that its paper states, at a size that trains
on a laptop. `nas zoo` lists them; all of them lie in the ready-made space `hybrid_lm`.
"""

from __future__ import annotations

from dataclasses import dataclass

from foundation.registry import Registry
from search_spaces.network.decoder import Decoder

PREFIX = "zoo:"
"""Before the name of a point, wherever a network is named."""

D_MODEL = 64
"""The width of every point: small, so that building, training and checking all of them takes minutes."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published architecture: where it comes from, and its configuration here.

    `note` says what is scaled down or left out against the paper.
    """

    name: str
    family: str
    paper: str
    arxiv: str
    spec: Decoder
    note: str = ""

    @property
    def link(self) -> str:
        """Where to read about it."""
        return f"https://arxiv.org/abs/{self.arxiv}"


zoo: Registry[Published] = Registry("architecture", folder="search_spaces.zoo")
