"""How busy every GPU is while something runs: sampled, and drawn as one curve for each of them."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Self

SAMPLE_SECONDS = 0.5
WIDTH, HEIGHT, MARGIN = 720, 90, 50
INK, FAINT, CURVE = "#1f2430", "#c8ccd4", "#1f6feb"

Samples = dict[str, list[tuple[float, float]]]
"""Pairs of a moment (`time.time`) and a share of it, by device."""


class Sampled:
    """Samples in a thread until the end of the context."""

    def __init__(self, *, cpu: bool) -> None:
        self.samples: Samples = defaultdict(list)
        self._busy = _of_cpu() if cpu else _of_gpus()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failed: object) -> None:
        self._over.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            for device, share in next(self._busy):
                self.samples[device].append((time.time(), share))

    def share(self, device: str, begin: float, end: float) -> float | None:
        """The mean between two moments; None where there is no sample."""
        shares = [share for moment, share in self.samples[device] if begin <= moment <= end]
        return sum(shares) / len(shares) if shares else None


def _of_gpus() -> Iterator[Iterable[tuple[str, float]]]:
    """The share of the last moment in which a kernel ran, as the driver has it."""
    words = ["nvidia-smi", "--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"]
    while True:
        found = []
        with suppress(OSError, subprocess.SubprocessError, ValueError):  # one sample less
            done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True)
            for line in done.stdout.splitlines():
                index, percent = line.split(",")
                found.append((f"GPU {int(index)}", float(percent) / 100))
        yield found


def _of_cpu() -> Iterator[Iterable[tuple[str, float]]]:
    """The share of all CPUs that was not idle, in the place of one GPU."""
    before = _cpu_times()
    while True:
        time.sleep(0.01)
        now = _cpu_times()
        passed = [b - a for a, b in zip(before, now, strict=True)]
        before = now
        yield [("CPU", 1 - (passed[3] + passed[4]) / max(1, sum(passed)))]


def _cpu_times() -> list[int]:
    """The first line of /proc/stat: user, nice, system, idle, waiting for a disk, ..."""
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


LEGEND = "How busy each device was. Shaded: while candidates waited."


def draw(path: Path, panels: Sequence[tuple[str, Samples, Mapping[str, tuple[float, float]]]]) -> None:
    """An SVG: for each run and device the samples over its seconds, and the stretch that is judged.

    A panel is a title, samples, and by device the moments between which candidates waited.
    """
    strips = [
        (title, device, samples[device], spans) for title, samples, spans in panels for device in samples
    ]
    high = MARGIN + len(strips) * (HEIGHT + MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 2 * MARGIN} {high}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH + 2 * MARGIN}" height="{high}" fill="white"/>',
        f'<text x="{MARGIN}" y="18" fill="{INK}">{LEGEND}</text>',
    ]
    for number, (title, device, samples, spans) in enumerate(strips):
        top = MARGIN + number * (HEIGHT + MARGIN)
        parts += _strip(f"{title}: {device}", samples, spans.get(device), top)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _strip(
    title: str, samples: Sequence[tuple[float, float]], span: tuple[float, float] | None, top: float
) -> list[str]:
    began, ended = samples[0][0], samples[-1][0]
    length = max(1e-9, ended - began)

    def x(moment: float) -> float:
        return MARGIN + WIDTH * min(1.0, max(0.0, (moment - began) / length))

    points = " ".join(f"{x(moment):.1f},{top + HEIGHT * (1 - share):.1f}" for moment, share in samples)
    parts = [f'<text x="{MARGIN}" y="{top - 6}" fill="{INK}">{escape(title)}, 0 to 100 % busy</text>']
    if span is not None:
        left, right = map(x, span)
        parts.append(
            f'<rect x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{HEIGHT}" fill="{FAINT}"'
            ' fill-opacity="0.4"/>'
        )
    parts += [
        f'<rect x="{MARGIN}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="{FAINT}"/>',
        f'<polyline points="{points}" fill="none" stroke="{CURVE}"/>',
        f'<text x="{MARGIN + WIDTH}" y="{top + HEIGHT + 14}" fill="{INK}" text-anchor="end">'
        f"{length:.0f} s</text>",
    ]
    return parts
