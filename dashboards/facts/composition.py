"""The composition of the front: how often each kind of block and each bit width occurs at each layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dashboards.facts.networks import kind_of
from nas.study.network_lines import bits_of
from search_spaces.network.decoder import Decoder, Layer, has_plain_layers

ABSENT = "no such layer"
MAX_COLUMNS = 8
"""Layers of deeper networks are grouped into at most this many runs."""

Question: TypeAlias = Callable[[Layer], str]
"""A property of a layer, as text."""


@dataclass(frozen=True)
class CompositionPanel:
    """One property of every layer: `front[option][place]` is the share of the front with that option."""

    title: str
    options: tuple[str, ...]
    front: tuple[tuple[float, ...], ...]
    everywhere: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class CompositionFacts:
    """Panels over places (a layer, or a run of layers), and how many networks they count."""

    panels: tuple[CompositionPanel, ...]
    places: tuple[str, ...]
    networks: int
    searched: int


def composition_facts(front: Sequence[Any], everywhere: Sequence[Any]) -> CompositionFacts | None:
    """How the architectures of the front differ from all that were scored; None unless they are decoders."""
    front = [spec for spec in front if has_plain_layers(spec)]
    everywhere = [spec for spec in everywhere if has_plain_layers(spec)]
    depth = max((len(spec.layers) for spec in everywhere), default=0)
    if not front or not depth:
        return None
    questions: tuple[tuple[str, Question], ...] = (
        ("sequence mixer", lambda layer: kind_of(layer.sequence_mixer)),
        ("channel mixer", lambda layer: kind_of(layer.channel_mixer) if layer.channel_mixer else "none"),
        ("bits of weights", lambda layer: f"{bits_of(layer, 'weight')[1:]} bits"),
        ("bits of state", lambda layer: f"{bits_of(layer, 'state')[1:]} bits"),
    )
    runs = _runs(depth)
    panels = tuple(_panel(title, front, everywhere, runs, ask) for title, ask in questions)
    open_panels = tuple(panel for panel in panels if len(panel.options) > 1)
    places = tuple(_place(run) for run in runs)
    return CompositionFacts(open_panels, places, len(front), len(everywhere)) if open_panels else None


def _runs(depth: int) -> list[range]:
    width = -(-depth // MAX_COLUMNS)
    return [range(start, min(start + width, depth)) for start in range(0, depth, width)]


def _place(run: range) -> str:
    return f"layer {run[0]}" if len(run) == 1 else f"layers {run[0]} to {run[-1]}"


def _panel(
    title: str, front: Sequence[Decoder], everywhere: Sequence[Decoder], runs: Sequence[range], ask: Question
) -> CompositionPanel:
    depth = runs[-1][-1] + 1
    chosen, seen = ([_answers(spec, depth, ask) for spec in specs] for specs in (front, everywhere))
    options = sorted({answer for answers in seen for answer in answers} - {ABSENT}, key=_order)
    if title == "sequence mixer" and any(ABSENT in answers for answers in seen):
        options.append(ABSENT)
    return CompositionPanel(
        title,
        tuple(options),
        tuple(tuple(_share(chosen, option, run) for run in runs) for option in options),
        tuple(tuple(_share(seen, option, run) for run in runs) for option in options),
    )


def _answers(spec: Decoder, depth: int, ask: Question) -> list[str]:
    return [ask(spec.layers[place]) if place < len(spec.layers) else ABSENT for place in range(depth)]


def _share(networks: Sequence[Sequence[str]], option: str, run: range) -> float:
    hits = [answers[place] == option for answers in networks for place in run]
    return sum(hits) / len(hits)


def _order(option: str) -> tuple[int, str]:
    head = option.split()[0]
    return (int(head) if head.isdigit() else -1, option)
