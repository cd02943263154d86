"""What may stand in the place of a network's own parts, as settings: no block is loaded for them."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import Settings, setting
from search_spaces.quantization.bits import GROUPS, WEIGHT_BITS

MIXERS = ("linear_attention", "gated_delta_net", "mamba2")
"""Names of mixers in the place of attention; `around_a_network.MIXERS` makes them."""


@dataclass(frozen=True, kw_only=True)
class Alternatives(Settings):
    """What may stand in the place of a network's own parts."""

    bits: tuple[int, ...] = setting(
        (8, 6, 4, 3),
        help="Bits of the weights of each half of a layer, beside those that it has; 0: none.",
        choices=(0, *(bits for bits in WEIGHT_BITS if bits in (8, 6, 4, 3, 2))),
        metavar="BITS,...",
    )
    group: int = setting(64, help="Weights that share a scale.", choices=GROUPS)
    windows: tuple[int, ...] = setting(
        (), help="Windows of attention, in tokens.", least=1, most=2**20, metavar="TOKENS,...", shown="none"
    )
    mixers: tuple[str, ...] = setting(
        (),
        help=f"Mixers in the place of attention, of its sizes: {', '.join(MIXERS)}.",
        choices=MIXERS,
        metavar="MIXER,...",
        shown="none",
    )
    kv_heads: tuple[int, ...] = setting(
        (),
        help="Heads of keys and values of attention, fewer than it has: means of neighbours.",
        least=1,
        most=2**16,
        metavar="HEADS,...",
        shown="its own",
    )
    narrower: tuple[float, ...] = setting(
        (),
        help="Shares of the hidden channels of SwiGLU that stay: the most important ones.",
        above=0,
        below=1,
        metavar="SHARE,...",
        shown="all",
    )
    skip: bool = setting(False, help="Whether each half of a layer may be left out.")
