"""Studies side by side: their fronts, how much each dominates, and who found the best of all.

    facts = read_comparison([open_study("first"), open_study("second")])
    facts.sides[0].share           # of the volume that both together dominate

Volumes are taken below one reference point, a tenth of the range beyond the worst member of any front, with
costs in logarithms, in which twice as fast counts the same everywhere (as in `nas.validation.gain`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from dashboards.facts.comparability import require_comparable
from dashboards.facts.front import FrontFacts
from dashboards.facts.networks import NetworkFacts, measured_values, one_line_of, quantity
from dashboards.facts.quantities import Quantity
from dashboards.facts.study import (
    StudyFacts,
    distinct_complete,
    front_networks,
    front_of,
    planes,
    study_facts,
)
from foundation.errors import SettingError
from nas.engines.base import BY, told_engine
from nas.objectives.base import objectives
from nas.pareto import Points, hypervolume, hypervolume_trace, nondominated, reference_point
from nas.study.plan_objectives import quality_of
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.gain import scaled

MOST = 6
"""Studies that can be told apart in one figure."""

RESAMPLES = 200

Point: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ComparedStudy:
    """One study of a comparison.

    `trace` is the share of the joint volume that is dominated after each scored architecture, and `error` the
    standard error of its end from the validation windows, where they are known. Of the front of all studies
    together, this one found `joint` members, of which `alone` no other study scored.
    """

    study: StudyFacts
    engine: str
    front: tuple[NetworkFacts, ...]
    fronts: tuple[FrontFacts, ...]
    volume: float
    trace: tuple[float, ...]
    error: float | None
    joint: int
    alone: int

    @property
    def share(self) -> float:
        """The share of the joint volume that it dominates in the end."""
        return self.trace[-1]

    def share_at(self, scored: int) -> float:
        """The share after so many scored architectures."""
        return self.trace[scored - 1]


@dataclass(frozen=True)
class Discovery:
    """Where a network was found: the study's place among the sides, its trial, and whether by chance."""

    side: int
    study: str
    number: int
    digest: str
    chance: bool


@dataclass(frozen=True)
class JointMember:
    """A network on the front of all studies together, and who found it."""

    network: NetworkFacts
    found: tuple[Discovery, ...]


@dataclass(frozen=True, kw_only=True)
class ComparisonFacts:
    """Everything that a comparison shows. `reference` is in the objectives' own units."""

    objectives: tuple[Quantity, ...]
    sides: tuple[ComparedStudy, ...]
    joint: tuple[JointMember, ...]
    reference: Point
    volume: float
    notes: tuple[str, ...] = ()

    @property
    def fewest(self) -> int:
        """The architectures that every study scored at least."""
        return min(side.study.distinct for side in self.sides)

    @property
    def uneven(self) -> bool:
        """Whether some study scored more than another."""
        return any(side.study.distinct != self.fewest for side in self.sides)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return {
            "objectives": [what.name for what in self.objectives],
            "reference": dict(zip((what.name for what in self.objectives), self.reference, strict=True)),
            "hypervolume": self.volume,
            "notes": list(self.notes),
            "studies": [_side_json(side, self.fewest) for side in self.sides],
            "front": [_member_json(member, self.objectives) for member in self.joint],
        }


@dataclass(frozen=True)
class _Read:
    """A study with what was read of it: `points` are those of the front, turned, costs in logarithms."""

    study: Study
    trials: list[Trial]
    scored: list[Trial]
    scored_points: list[Point]
    front: list[Trial]
    points: list[Point]
    one_lines: dict[str, str]


def read_comparison(studies: Sequence[Study]) -> ComparisonFacts:
    """Read studies, finished or not, into plain values.

    Raises:
        SettingError: they are too few or too many, one has scored nothing, or they cannot be compared.
    """
    _check_names([study.name for study in studies])
    notes = require_comparable(studies)
    names = studies[0].plan.objectives
    if len(names) < 2:
        raise SettingError(f"a front needs two objectives, and these studies have {names[0]} only")
    reads, logarithmic = _read(studies, names)
    points = [point for read in reads for point in read.points]
    reference, joint = reference_point(points), _nondominated(points)
    whole = hypervolume(joint, reference)
    networks = [
        front_networks(read.study, read.front, read.one_lines, measured_values(read.study)) for read in reads
    ]
    members = _joint_members(reads, networks, joint)
    quality, quantities = quality_of(studies[0].plan), tuple(map(quantity, names))
    axis = names.index(quality) if quality is not None else None
    samples = [_samples(read.front, quality) for read in reads]
    errors = share_errors([read.points for read in reads], samples, axis, reference)
    finders = [{finding.side for finding in member.found} for member in members]
    return ComparisonFacts(
        objectives=quantities,
        sides=tuple(
            ComparedStudy(
                study=study_facts(read.study, read.trials, read.scored),
                engine=told_engine(read.study.plan),
                front=networks[i],
                fronts=planes(
                    read.study, read.scored, read.front, objectives=names, one_lines=read.one_lines
                ),
                volume=hypervolume(read.points, reference),
                trace=tuple(v / whole for v in hypervolume_trace(read.scored_points, reference)),
                error=errors[i],
                joint=sum(i in found for found in finders),
                alone=sum(found == {i} for found in finders),
            )
            for i, read in enumerate(reads)
        ),
        joint=members,
        reference=natural(reference, logarithmic, quantities),
        volume=whole,
        notes=notes,
    )


def share_errors(
    fronts: Sequence[Sequence[Point]],
    samples: Sequence[Sequence[tuple[float, ...]]],
    axis: int | None,
    reference: Points,
    *,
    seed: int = 0,
) -> list[float | None]:
    """One standard error of each side's share of the joint volume, with the windows drawn anew.

    `samples` are the scores of each network of each front, window by window, turned so that less is better;
    their mean stands at `axis`. All networks are judged on the same windows, so one draw is for all of them.
    None where a score has no windows; the luck of training and of the search is not in it.
    """
    lengths = {len(one) for side in samples for one in side}
    windows = min(lengths)
    if axis is None or len(lengths) > 1 or windows < 2:
        return [None] * len(fronts)
    dice = np.random.default_rng(seed)
    drawn = [np.array(front) for front in fronts]
    held = [np.array(side) for side in samples]
    shares = []
    for _ in range(RESAMPLES):
        picks = dice.integers(windows, size=windows)
        for points, scores in zip(drawn, held, strict=True):
            points[:, axis] = scores[:, picks].mean(axis=1)
        union = hypervolume(np.concatenate(drawn), reference)
        shares.append([hypervolume(points, reference) / union if union > 0 else 0.0 for points in drawn])
    return [float(error) for error in np.std(shares, axis=0, ddof=1)]


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingError(f"named twice: {', '.join(twice)}")
    if not 2 <= len(names) <= MOST:
        raise SettingError(f"a comparison is of 2 to {MOST} studies, got {len(names)}")


def _read(studies: Sequence[Study], names: Sequence[str]) -> tuple[list[_Read], list[bool]]:
    """All studies, and which axes are in logarithms: costs that never change sign, the same for all."""
    asked = [study.trials() for study in studies]
    scored = [distinct_complete(trials) for trials in asked]
    for study, trials in zip(studies, scored, strict=True):
        if not trials:
            raise SettingError(f"study {study.name} has scored nothing yet: `nas resume {study.name}`")
    raw = [_points(study, trials, names) for study, trials in zip(studies, scored, strict=True)]
    flat = [point for points in raw for point in points]
    costs = [name in objectives and objectives[name].cheap is not None for name in names]
    rest = iter(scaled(flat, costs))
    turned = [[next(rest) for _ in points] for points in raw]
    logarithmic = [turned[0][0][axis] != raw[0][0][axis] for axis in range(len(names))]
    reads = []
    for study, trials, known, points in zip(studies, asked, scored, turned, strict=True):
        front, at = front_of(study, known), {t.number: p for t, p in zip(known, points, strict=True)}
        one_lines = {trial.digest: one_line_of(study, trial) for trial in front}
        mine = [at[trial.number] for trial in front]
        reads.append(_Read(study, trials, known, points, front, mine, one_lines))
    return reads, logarithmic


def _points(study: Study, trials: Sequence[Trial], names: Sequence[str]) -> list[Point]:
    """Objectives in this order, whatever the study's own is."""
    order = [study.plan.objectives.index(name) for name in names]
    return [tuple(point[i] for i in order) for point in study.points(trials)]


def _nondominated(points: Sequence[Point]) -> list[Point]:
    distinct = sorted(set(points))
    return [point for point, keep in zip(distinct, nondominated(distinct), strict=True) if keep]


def _samples(front: Sequence[Trial], quality: str | None) -> list[tuple[float, ...]]:
    """The quality of each network, window by window, turned so that less is better."""
    if quality is None:
        return [() for _ in front]
    sign = -1.0 if quality in objectives and objectives[quality].maximise else 1.0
    return [tuple(sign * sample for sample in trial.values[quality].samples) for trial in front]


def natural(reference: Points, logarithmic: Sequence[bool], quantities: Sequence[Quantity]) -> Point:
    """A point that was turned, and partly in logarithms, in the objectives' own units."""
    found = []
    for value, logs, what in zip(reference.tolist(), logarithmic, quantities, strict=True):
        sign = -1.0 if what.maximise else 1.0
        found.append(math.exp(sign * value) if logs else sign * value)
    return tuple(found)


def _joint_members(
    reads: Sequence[_Read], networks: Sequence[Sequence[NetworkFacts]], joint: Sequence[Point]
) -> tuple[JointMember, ...]:
    """The networks at these points, each with every study that scored it, or another one as good."""
    known = [{trial.digest: trial for trial in read.scored} for read in reads]
    at: dict[Point, dict[int, tuple[Trial, NetworkFacts]]] = {point: {} for point in joint}
    for side, (read, mine) in enumerate(zip(reads, networks, strict=True)):
        for point, trial, network in zip(read.points, read.front, mine, strict=True):
            if point in at:
                at[point][side] = (trial, network)
    members: dict[str, JointMember] = {}
    for there in at.values():
        network = next(iter(there.values()))[1]
        found = {
            side: trials[network.digest] for side, trials in enumerate(known) if network.digest in trials
        }
        found |= {side: trial for side, (trial, _) in there.items()}
        findings = (
            Discovery(
                side, reads[side].study.name, trial.number, trial.digest, trial.memo.get(BY) == "random"
            )
            for side, trial in sorted(found.items())
        )
        members.setdefault(network.digest, JointMember(network, tuple(findings)))
    return tuple(members.values())


def _side_json(side: ComparedStudy, fewest: int) -> dict[str, Any]:
    return {
        "study": side.study.name,
        "engine": side.engine,
        "scored": side.study.distinct,
        "front": len(side.front),
        "hypervolume": side.volume,
        "share": side.share,
        "share_error": side.error,
        "share_at_equal_count": side.share_at(fewest),
        "joint": side.joint,
        "alone": side.alone,
    }


def _member_json(member: JointMember, quantities: Sequence[Quantity]) -> dict[str, Any]:
    values = {what.name: member.network.values[what.name].value for what in quantities}
    found = [
        {"study": one.study, "trial": one.number, "digest": one.digest, "by_chance": one.chance}
        for one in member.found
    ]
    return {"digest": member.network.digest, "values": values, "found": found}
