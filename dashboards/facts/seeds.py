"""Studies that differ in nothing but their seed: how far their fronts grew, and how far seeds are apart.

A curve of one study says what one search found. What another seed would have found lies in the band.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboards.facts.growth import HypervolumeFacts
from foundation.settings import describe
from nas.store import StudyRecord
from nas.study.plan import Plan

LEAST_SEEDS = 3
"""Curves of which there is a median with something on both sides."""

MOST_SEEDS = 24
"""Studies that are read for one figure."""

FREE = frozenset(d.name for d in describe(Plan) if d.about.changeable) | {"seed"}
"""Settings that studies of one family may have of their own: the seed, and what may change on the way."""


@dataclass(frozen=True)
class SeedBand:
    """The volumes of several seeds after the trials of these numbers, as shares like those of their curves.

    Between two numbers they do not change. It ends where the shortest of the studies does.
    """

    name: str
    studies: tuple[str, ...]
    numbers: tuple[int, ...]
    low: tuple[float, ...]
    median: tuple[float, ...]
    high: tuple[float, ...]


def family_of(record: StudyRecord) -> str:
    """The same word for all studies of one space and plan, whatever their seeds."""
    settings = {name: value for name, value in settings_of(record).items() if name not in FREE}
    text = json.dumps([record.space_digest, settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def settings_of(record: StudyRecord) -> Mapping[str, Any]:
    """Its settings as they are on record, whatever somebody wrote there."""
    plan = record.config.get("plan")
    return plan if isinstance(plan, dict) else {}


def with_siblings(names: Sequence[str], records: Sequence[StudyRecord]) -> dict[str, str]:
    """The family of each of these studies by name, and of all that differ from one of them in the seed.

    The studies themselves come first, then one for each further seed, `MOST_SEEDS` in all.
    """
    families = {record.name: family_of(record) for record in records}
    seeds = {record.name: str(settings_of(record).get("seed")) for record in records}
    found = {name: families[name] for name in names if name in families}
    wanted, known = set(found.values()), {(family, seeds[name]) for name, family in found.items()}
    for name in sorted(name for name, family in families.items() if family in wanted):
        place = families[name], seeds[name]
        if place not in known and len(found) < MOST_SEEDS:
            found[name] = families[name]
            known.add(place)
    return found


def seed_bands(
    curves: Mapping[str, HypervolumeFacts], families: Mapping[str, str]
) -> tuple[list[SeedBand], dict[str, HypervolumeFacts]]:
    """A band for each family of `LEAST_SEEDS` curves or more, and the curves of the others."""
    groups: dict[str, list[str]] = {}
    for name in curves:
        groups.setdefault(families.get(name, name), []).append(name)
    bands = [_band(names, curves) for names in groups.values() if len(names) >= LEAST_SEEDS]
    in_band = {name for band in bands for name in band.studies}
    return bands, {name: curve for name, curve in curves.items() if name not in in_band}


def _band(names: Sequence[str], curves: Mapping[str, HypervolumeFacts]) -> SeedBand:
    some = [curves[name] for name in names]
    last = min(curve.numbers[-1] for curve in some)
    numbers = sorted({number for curve in some for number in curve.numbers if number <= last} | {last})
    shares = np.stack([_at(curve, numbers) for curve in some])
    low, median, high = shares.min(axis=0), np.median(shares, axis=0), shares.max(axis=0)
    return SeedBand(
        f"{names[0]} and {len(names) - 1} other seeds, median",
        tuple(names),
        tuple(numbers),
        tuple(low.tolist()),
        tuple(median.tolist()),
        tuple(high.tolist()),
    )


def _at(curve: HypervolumeFacts, numbers: Sequence[int]) -> np.ndarray:
    """The share of a curve after the trials of these numbers; nothing before its first."""
    places = np.searchsorted(curve.numbers, numbers, side="right") - 1
    return np.where(places < 0, 0.0, np.array(curve.shares)[np.maximum(places, 0)])
