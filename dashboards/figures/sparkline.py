"""A curve without axes, small enough for a row of a table."""

from __future__ import annotations

from base64 import b64encode

from dashboards.facts.growth import HypervolumeFacts
from dashboards.figures.drawing import thinned
from dashboards.style.theme import BLUE, GREY

WIDTH, HEIGHT = 120, 26
CORNERS = 60


def sparkline(facts: HypervolumeFacts) -> str:
    """The growth of a front, as the address of an image."""
    last = max(1, facts.numbers[-1])
    points = [(WIDTH * n / last, HEIGHT * (1 - s)) for n, s in zip(facts.numbers, facts.shares, strict=True)]
    shown = [points[i] for i in thinned(len(points), CORNERS)]
    path = f"M0 {HEIGHT}" + "".join(f"H{x:.1f}V{y + 1:.1f}" for x, y in shown) + f"H{WIDTH}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 2}">'
        f'<path d="M0 {HEIGHT + 1}H{WIDTH}" stroke="{GREY}" stroke-width=".6"/>'
        f'<path d="{path}" fill="none" stroke="{BLUE}" stroke-width="1.6"/></svg>'
    )
    return "data:image/svg+xml;base64," + b64encode(svg.encode()).decode()
