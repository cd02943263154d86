"""Pictures and tables of what was kept: SVG and Markdown, written by hand, since a device has no library."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

SIDE, MARGIN, GAP = 420, 64, 40
STEPS = (1, 2, 5)
INK, FAINT, INSIDE, OUTSIDE = "#1f2430", "#c8ccd4", "#1f6feb", "#d1242f"


def draw(path: Path) -> list[Path]:
    """A picture of an accuracy result, or a table of a claims result, beside its file."""
    result = json.loads(path.read_text(encoding="utf-8"))
    rows = result["rows"]
    if rows and "prefill_ms" in rows[0]:
        target = path.with_suffix(".svg")
        target.write_text(scatter(result), encoding="utf-8")
    else:
        target = path.with_suffix(".md")
        target.write_text(table_of_claims(result), encoding="utf-8")
    return [target]


def scatter(result: dict[str, Any]) -> str:
    """Predicted against measured, both in ms, with the stated 90 % interval of each prediction."""
    machine = result["fingerprint"].get("gpu") or result["fingerprint"]["cpu_model"]
    head = f"Predicted against measured: {machine}, torch {result['fingerprint']['torch']}"
    width, height = 2 * (SIDE + MARGIN) + GAP + MARGIN, SIDE + 2 * MARGIN + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="24" font-size="15" fill="{INK}">{escape(head)}</text>',
    ]
    for i, summary in enumerate(result["summary"]):
        parts += _panel(result["rows"], summary, MARGIN + i * (SIDE + MARGIN + GAP), MARGIN)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(rows: Sequence[dict[str, Any]], summary: dict[str, Any], left: float, top: float) -> list[str]:
    reading = summary["reading"]
    cells = [row[reading] for row in rows]
    values = [v for cell in cells for v in (cell["measured"], *cell["interval"]) if v > 0]
    low, high = min(values) / 1.1, max(values) * 1.1

    def at(value: float) -> float:
        return SIDE * math.log(max(value, low) / low) / math.log(high / low)

    def dot(cell: dict[str, Any]) -> str:
        x, y = left + at(cell["measured"]), top + SIDE - at(cell["predicted"])
        low_y, high_y = (top + SIDE - at(end) for end in cell["interval"])
        inside = cell["interval"][0] <= cell["measured"] <= cell["interval"][1]
        colour = INSIDE if inside else OUTSIDE
        return (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low_y:.1f}" y2="{high_y:.1f}" stroke="{colour}"'
            f' stroke-opacity="0.45"/><circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>'
        )

    caption = (
        f"{reading.removesuffix('_ms')}: {summary['networks']} networks, error {100 * summary['MAPE']:.1f} %,"
        f" tau {_short(summary['tau'])}, {100 * summary['inside 90 %']:.0f} % inside"
    )
    parts = [
        f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="none" stroke="{FAINT}"/>',
        f'<text x="{left}" y="{top - 10}" fill="{INK}">{escape(caption)}</text>',
        f'<line x1="{left}" y1="{top + SIDE}" x2="{left + SIDE}" y2="{top}" stroke="{FAINT}"/>',
        f'<text x="{left + SIDE / 2}" y="{top + SIDE + 38}" text-anchor="middle" fill="{INK}">'
        "measured, ms</text>",
        f'<text transform="translate({left - 44} {top + SIDE / 2}) rotate(-90)" text-anchor="middle"'
        f' fill="{INK}">predicted, ms</text>',
    ]
    for tick in ticks(low, high):
        x, y = left + at(tick), top + SIDE - at(tick)
        parts.append(
            f'<text x="{x:.1f}" y="{top + SIDE + 18}" text-anchor="middle" fill="{INK}">{tick:g}</text>'
        )
        parts.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{INK}">{tick:g}</text>'
            f'<line x1="{left - 4}" x2="{left}" y1="{y:.1f}" y2="{y:.1f}" stroke="{INK}"/>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + SIDE}" y2="{top + SIDE + 4}" stroke="{INK}"/>'
        )
    return [*parts, *map(dot, cells)]


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two bounds."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in STEPS if low <= step * 10.0**decade <= high]


def table_of_claims(result: dict[str, Any]) -> str:
    """Each claim with what was published and what was measured here, as Markdown."""
    machine = result["fingerprint"].get("gpu") or result["fingerprint"]["cpu_model"]
    lines = [
        "# Published claims beside our own measurements",
        "",
        f"{machine}, torch {result['fingerprint']['torch']}, {result['scenario']['dtype']}; width"
        f" {result['size']['d_model']}, {result['size']['layers']} layers. Made by `{result['command']}`"
        f" at commit {result['commit']}.",
        "",
        "| claim | setting | published | ours | source |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        more = [
            f"{name} {_short(row[name])}" for name in row if name.startswith(("times faster", "over GQA"))
        ]
        ours = "; ".join([f"{_short(row['ours'])} {row['unit']}", *more])
        cells = (row["claim"], row["setting"], row["published"], ours, row["source"])
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    loose = [seen for seen in result["timings"] if seen["unsettled"]]
    if loose:
        lines += [
            "",
            f"{len(loose)} of {len(result['timings'])} timings did not settle; the file says which.",
        ]
    return "\n".join(lines) + "\n"


def _short(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
