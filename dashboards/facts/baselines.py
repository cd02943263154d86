"""Baselines: networks that a sceptic would choose, beside those of the front that were trained as long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboards.facts.networks import one_line_of, quantity
from dashboards.facts.quantities import Quantity
from nas.study.baseline_gaps import baseline_trials, verdicts
from nas.study.baselines import rungs_of
from nas.study.given_networks import given_name, is_given
from nas.study.study import Study
from nas.study.trial import Trial, Value


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork:
    """A network that was trained from scratch: a baseline of this `name`, or, without one, of the front.

    `rungs` are its scores by training steps, `costs` its other numbers, as measured where that was done.
    """

    name: str
    digest: str
    one_line: str
    rungs: Mapping[int, Value]
    costs: Mapping[str, Value]

    @property
    def last(self) -> int:
        """The steps of its longest training."""
        return max(self.rungs)


@dataclass(frozen=True)
class VerdictFacts:
    """What became of the baselines at equal `cost`, in words."""

    cost: Quantity
    result: str

    @property
    def sentence(self) -> str:
        """The whole of it: `At equal weights the front beats lfm2 by 0.081 ± 0.012 bits per byte ...`."""
        return f"At equal {self.cost.label} {self.result}."


@dataclass(frozen=True, kw_only=True)
class BaselineFacts:
    """All baselines of a study, the networks that they are held against, and the verdicts."""

    quality: Quantity
    baselines: tuple[TrainedNetwork, ...]
    members: tuple[TrainedNetwork, ...]
    verdicts: tuple[VerdictFacts, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The baselines, each once."""
        return tuple(dict.fromkeys(network.name for network in self.baselines))

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps after which something was scored."""
        return tuple(sorted({steps for n in (*self.members, *self.baselines) for steps in n.rungs}))

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdicts in words."""
        return tuple(verdict.sentence for verdict in self.verdicts)


def verdict_sentences(study: Study) -> tuple[str, ...]:
    """What became of the baselines of a study; empty where none was trained."""
    return tuple(VerdictFacts(quantity(v.cost, study), v.result).sentence for v in verdicts(study))


def baseline_facts(
    study: Study, measured: Mapping[str, Mapping[str, Value]] | None = None
) -> BaselineFacts | None:
    """The baselines of a study; None where none was trained."""
    if study.quality is None or not (trials := baseline_trials(study)):
        return None
    known = study.measured() if measured is None else measured
    members = [trial for rung in rungs_of(study) for trial in rung.members]
    return BaselineFacts(
        quality=quantity(study.quality.name, study),
        baselines=_networks(study, trials, known, study.quality.name),
        members=_networks(study, members, known, study.quality.name),
        verdicts=tuple(VerdictFacts(quantity(v.cost, study), v.result) for v in verdicts(study)),
    )


def _networks(
    study: Study, trials: Iterable[Trial], known: Mapping[str, Mapping[str, Value]], quality: str
) -> tuple[TrainedNetwork, ...]:
    """The networks of these trials, those that were trained longest first, the best of them first."""
    of_network: dict[str, list[Trial]] = {}
    for trial in trials:
        if quality in trial.values:
            of_network.setdefault(trial.digest, []).append(trial)
    networks = [_network(study, some, known, quality) for some in of_network.values()]
    return tuple(sorted(networks, key=lambda n: (-n.last, n.rungs[n.last].value)))


def _network(
    study: Study, trials: Sequence[Trial], known: Mapping[str, Mapping[str, Value]], quality: str
) -> TrainedNetwork:
    last = max(trials, key=lambda trial: trial.fidelity.steps)
    costs = {**last.values, **known.get(last.digest, {})}
    return TrainedNetwork(
        name=given_name(last.genotype) if is_given(last.genotype) else "",
        digest=last.digest,
        one_line=one_line_of(study, last),
        rungs={trial.fidelity.steps: trial.values[quality] for trial in trials},
        costs={name: value for name, value in costs.items() if name != quality},
    )
