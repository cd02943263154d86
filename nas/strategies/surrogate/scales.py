"""On which scales a model proposes: bent ones, which predict better, or straight ones, which may lead on.

Evidence is about candidates like those that were scored, and a search asks for others: on bent scales a model
may predict all known values much better and yet expect less of what lies beyond them. So both propose, each
the more often the more of its last candidates stand on the front.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

RECENT = 40
"""Candidates of each that count."""

LEAST_SHARE = 0.1
"""Of the scorings; a scale that leads nowhere now may do so later."""


def straight_share(scales: Mapping[int, bool], front: Set[int]) -> float:
    """The share of scorings to be made on straight scales.

    `scales` say by number, of candidates that a model proposed, whether it was on straight scales; `front` is
    of the numbers on the front. Shares are as the squares of how often each led there.
    """
    led = []
    for which in (True, False):
        mine = [number for number, straight in sorted(scales.items()) if straight is which][-RECENT:]
        led.append((sum(number in front for number in mine) + 1) / (len(mine) + 2))
    straight, bent = led
    return min(max(straight**2 / (straight**2 + bent**2), LEAST_SHARE), 1 - LEAST_SHARE)
