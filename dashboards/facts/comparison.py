"""Several studies side by side: their fronts, how much each dominates, and the front of all together.

    facts = read_comparison([open_study("first"), open_study("second")])
    facts.studies[0].share         # of the volume that all fronts dominate together

Hypervolumes are taken below one reference point, a tenth of the range beyond the worst member of any front.
Costs count in logarithms, so that a factor of two is worth the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.facts.baselines import verdict_sentences
from dashboards.facts.comparability import require_comparable
from dashboards.facts.front import FrontFacts
from dashboards.facts.hypervolume import Coordinates, distinct_nondominated, in_natural_units, share_errors
from dashboards.facts.networks import NetworkFacts, one_line_of, quantity
from dashboards.facts.planes import planes
from dashboards.facts.quantities import Quantity
from dashboards.facts.study import (
    StudyFacts,
    distinct_complete,
    front_networks,
    front_of,
    study_facts,
)
from dashboards.facts.winners import shared_winners
from foundation.errors import SettingError
from nas.engines.base import PROPOSED_BY, engine_title
from nas.objectives.base import objectives
from nas.pareto import Points, hypervolume, hypervolume_trace, reference_point
from nas.study.study import Study, of_most_steps
from nas.study.trial import Trial
from nas.validation.gain import scaled

MAX_STUDIES = 6
"""More studies than this cannot be distinguished in one figure."""


@dataclass(frozen=True, kw_only=True)
class ComparedStudy:
    """One study of a comparison.

    `trace` is the share of the joint volume that is dominated after each scored architecture; `error` is the
    standard error of its last value, from the validation windows, where these are on record. `joint` members
    of the joint front were scored by this study, and `exclusive` of them by no other. `verdicts` say what
    became of its baselines.
    """

    study: StudyFacts
    engine: str
    front: tuple[NetworkFacts, ...]
    fronts: tuple[FrontFacts, ...]
    volume: float
    trace: tuple[float, ...]
    error: float | None
    joint: int
    exclusive: int
    verdicts: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of the joint volume that its final front dominates."""
        return self.trace[-1]

    def share_at(self, scored: int) -> float:
        """The share after this many scored architectures."""
        return self.trace[scored - 1]


@dataclass(frozen=True)
class Discovery:
    """A trial that scored a network: `index` is the position of its study; `random` marks a random draw."""

    index: int
    study: str
    number: int
    digest: str
    random: bool


@dataclass(frozen=True)
class JointMember:
    """A network on the joint front, and the trials that scored it."""

    network: NetworkFacts
    discoveries: tuple[Discovery, ...]


@dataclass(frozen=True, kw_only=True)
class ComparisonFacts:
    """Everything that a comparison shows. `reference` is in the objectives' own units."""

    objectives: tuple[Quantity, ...]
    studies: tuple[ComparedStudy, ...]
    joint: tuple[JointMember, ...]
    reference: Coordinates
    volume: float
    notes: tuple[str, ...] = ()

    @property
    def fewest(self) -> int:
        """The number of architectures that every study scored at least."""
        return min(compared.study.distinct for compared in self.studies)

    @property
    def uneven(self) -> bool:
        """Whether some study scored more architectures than another."""
        return any(compared.study.distinct != self.fewest for compared in self.studies)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for programs."""
        names = [quantity.name for quantity in self.objectives]
        return {
            "objectives": names,
            "reference": dict(zip(names, self.reference, strict=True)),
            "hypervolume": self.volume,
            "notes": list(self.notes),
            "studies": [_study_json(compared, self.fewest) for compared in self.studies],
            "front": [_member_json(member, names) for member in self.joint],
        }


@dataclass(frozen=True)
class _Scored:
    """The trials of a study; `points` minimise every objective, with costs in logarithms."""

    study: Study
    trials: Sequence[Trial]
    scored: Sequence[Trial]
    points: Sequence[Coordinates]
    front: Sequence[Trial]
    front_points: Sequence[Coordinates]
    one_lines: Mapping[str, str]

    @property
    def networks(self) -> tuple[NetworkFacts, ...]:
        return front_networks(self.study, self.front, self.one_lines, self.study.measured())


@dataclass(frozen=True)
class _Joint:
    """The joint front and the volume that it dominates below `reference`."""

    members: Sequence[JointMember]
    reference: Points
    volume: float

    def measures(self, index: int, read: _Scored) -> dict[str, Any]:
        """What one study contributes to it: the fields of `ComparedStudy` about volumes and counts."""
        finders = [{discovery.index for discovery in member.discoveries} for member in self.members]
        trace = hypervolume_trace(read.points, self.reference)
        return {
            "volume": hypervolume(read.front_points, self.reference),
            "trace": tuple(volume / self.volume for volume in trace),
            "joint": sum(index in found for found in finders),
            "exclusive": sum(found == {index} for found in finders),
        }


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
    points = [point for read in reads for point in read.front_points]
    reference, joint_points = reference_point(points), distinct_nondominated(points)
    networks = [read.networks for read in reads]
    members = _joint_members(reads, networks, joint_points)
    quantities, joint = (
        tuple(quantity(name, studies[0]) for name in names),
        _Joint(members, reference, hypervolume(joint_points, reference)),
    )
    errors = _errors(reads, names, reference)
    return ComparisonFacts(
        objectives=quantities,
        studies=tuple(
            ComparedStudy(
                study=study_facts(read.study, read.trials),
                engine=engine_title(read.study.plan),
                front=networks[index],
                fronts=planes(
                    read.study, read.scored, read.front, objectives=names, one_lines=read.one_lines
                ),
                error=errors[index],
                verdicts=verdict_sentences(read.study),
                **joint.measures(index, read),
            )
            for index, read in enumerate(reads)
        ),
        joint=members,
        reference=in_natural_units(reference, logarithmic, quantities),
        volume=joint.volume,
        notes=(*notes, *_winners(reads)),
    )


def _winners(reads: Sequence[_Scored]) -> Iterator[str]:
    """How many networks win in several runtimes, where the studies of one space differ in these."""
    engines = {scenario.engine for read in reads for scenario in read.study.plan.scenarios}
    if len(engines) > 1 and len({read.study.record.space_digest for read in reads}) == 1:
        yield from shared_winners({r.study.name: [trial.digest for trial in r.front] for r in reads})


def _check_names(names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SettingError(f"named twice: {', '.join(repeated)}")
    if not 2 <= len(names) <= MAX_STUDIES:
        raise SettingError(f"a comparison is of 2 to {MAX_STUDIES} studies, got {len(names)}")


def _read(studies: Sequence[Study], names: Sequence[str]) -> tuple[list[_Scored], list[bool]]:
    """All studies, and which objectives are in logarithms: costs that never change sign, the same for all."""
    trials = [study.trials() for study in studies]
    scored = [of_most_steps(distinct_complete(of_study)) for of_study in trials]
    for study, of_study in zip(studies, scored, strict=True):
        if not of_study:
            raise SettingError(f"study {study.name} has no scored trial: run `nas resume {study.name}`")
    raw = [_points(study, of_study, names) for study, of_study in zip(studies, scored, strict=True)]
    costs = [name in objectives and objectives[name].cheap is not None for name in names]
    flat = iter(scaled([point for points in raw for point in points], costs))
    points = [[next(flat) for _ in of_study] for of_study in raw]
    logarithmic = [points[0][0][axis] != raw[0][0][axis] for axis in range(len(names))]
    reads = [_with_front(*of_study) for of_study in zip(studies, trials, scored, points, strict=True)]
    return reads, logarithmic


def _with_front(
    study: Study, trials: Sequence[Trial], scored: Sequence[Trial], points: Sequence[Coordinates]
) -> _Scored:
    front = front_of(study, scored)
    by_number = {trial.number: point for trial, point in zip(scored, points, strict=True)}
    return _Scored(
        study=study,
        trials=trials,
        scored=scored,
        points=points,
        front=front,
        front_points=[by_number[trial.number] for trial in front],
        one_lines={trial.digest: one_line_of(study, trial) for trial in front},
    )


def _points(study: Study, trials: Sequence[Trial], names: Sequence[str]) -> list[Coordinates]:
    """Objectives in the order of `names`, whatever the study's own order is."""
    order = [study.plan.objectives.index(name) for name in names]
    return [tuple(point[i] for i in order) for point in study.points(trials)]


def _errors(reads: Sequence[_Scored], names: Sequence[str], reference: Points) -> list[float | None]:
    score = reads[0].study.quality
    quality = score.name if score else None
    axis = names.index(quality) if quality is not None else None
    samples = [_samples(read.study, read.front, quality) for read in reads]
    return share_errors([read.front_points for read in reads], samples, axis, reference)


def _samples(study: Study, front: Sequence[Trial], quality: str | None) -> list[tuple[float, ...]]:
    """The quality of each network, window by window, in the direction where less is better."""
    if quality is None:
        return [() for _ in front]
    sign = -1.0 if quantity(quality, study).maximise else 1.0
    return [tuple(sign * sample for sample in trial.values[quality].samples) for trial in front]


def _joint_members(
    reads: Sequence[_Scored],
    networks: Sequence[Sequence[NetworkFacts]],
    joint_points: Sequence[Coordinates],
) -> tuple[JointMember, ...]:
    """The networks at these points, each with every study that scored it, or another one as good."""
    by_digest = [{trial.digest: trial for trial in read.scored} for read in reads]
    at_point: dict[Coordinates, dict[int, tuple[Trial, NetworkFacts]]] = {point: {} for point in joint_points}
    for index, (read, front) in enumerate(zip(reads, networks, strict=True)):
        for point, trial, network in zip(read.front_points, read.front, front, strict=True):
            if point in at_point:
                at_point[point][index] = (trial, network)
    members: dict[str, JointMember] = {}
    for equals in at_point.values():
        network = next(iter(equals.values()))[1]
        trials = {
            index: scored[network.digest]
            for index, scored in enumerate(by_digest)
            if network.digest in scored
        }
        trials |= {index: trial for index, (trial, _) in equals.items()}
        discoveries = tuple(_discovery(reads[i].study, i, trial) for i, trial in sorted(trials.items()))
        members.setdefault(network.digest, JointMember(network, discoveries))
    return tuple(members.values())


def _discovery(study: Study, index: int, trial: Trial) -> Discovery:
    return Discovery(index, study.name, trial.number, trial.digest, trial.memo.get(PROPOSED_BY) == "random")


def _study_json(compared: ComparedStudy, fewest: int) -> dict[str, Any]:
    return {
        "study": compared.study.name,
        "engine": compared.engine,
        "scored": compared.study.distinct,
        "front": len(compared.front),
        "hypervolume": compared.volume,
        "share": compared.share,
        "share_error": compared.error,
        "share_at_equal_count": compared.share_at(fewest),
        "joint": compared.joint,
        "exclusive": compared.exclusive,
        "baselines": list(compared.verdicts),
    }


def _member_json(member: JointMember, names: Sequence[str]) -> dict[str, Any]:
    discoveries = [
        {"study": d.study, "trial": d.number, "digest": d.digest, "random": d.random}
        for d in member.discoveries
    ]
    values = {name: member.network.values[name].value for name in names}
    return {"digest": member.network.digest, "values": values, "discoveries": discoveries}
