"""The best network of a study under bounds: `best_of(study, "bits_per_byte", ["decode_ms<1.5"])`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from foundation.text import count, listed
from nas.study.constraints import Constraint
from nas.study.front import number_with_error
from nas.study.plan import SCENARIO_MARK
from nas.study.study import Study, of_most_steps
from nas.study.trial import Trial, Value


@dataclass(frozen=True)
class _Network:
    """A scored network: its numbers, as well as they are known, and the names of those that were measured."""

    trial: Trial
    numbers: Mapping[str, Value]
    measured: Collection[str]

    def excess(self, bounds: Sequence[Constraint]) -> float:
        """By how much it breaks the bounds, relatively, all together."""
        return sum(bound.excess(self.numbers[bound.name].value) for bound in bounds)


def best_of(study: Study, objective: str, where: Sequence[str] = ()) -> Trial:
    """The scored network with the best value of a number among those that keep the bounds.

    Numbers are the best known ones; see `Study.numbers`. Where one that is asked for was measured of some
    networks, only they are candidates: a prediction that is too good must not win over what was measured. In
    a study of several scenarios, a bound on `decode_ms` holds in each, one on `decode_ms@chat` in that one.

    The best in a score is a finalist, if one keeps the bounds: scores of trainings of their own say more than
    those that a search ranks by. Of the finalists those of the most steps count, and the trial that comes
    back has the values and the fidelity of that training, as `Study.winner` has.

    Raises:
        SettingError: a bound cannot be read, or no network keeps them all: the message names the nearest.
        UnknownName: no network of the study has such a number.
    """
    measured, searched = study.measured(), study.comparable()
    networks = _networks(searched, measured)
    names = sorted({name for network in networks for name in network.numbers})
    goal = _the_one(study, objective, names)
    bounds = [bound for text in where for bound in _bounds(study, text, names)]
    if objective in {score.name for score in study.scores}:
        finalists = [n for n in _networks(_as_finalists(study, searched), measured) if goal in n.numbers]
        known = [n for n in finalists if all(bound.name in n.numbers for bound in bounds)]
        if keeping := [network for network in known if not network.excess(bounds)]:
            return _first(study, goal, keeping)
    asked = {goal, *(bound.name for bound in bounds)}
    complete = [network for network in networks if asked <= network.numbers.keys()]
    if not complete:
        raise SettingError(f"no network of study {study.name} has all of {listed(sorted(asked))}")
    wanted = {name for name in asked if any(name in network.measured for network in complete)}
    candidates = [network for network in complete if wanted <= set(network.measured)] or complete
    keeping = [network for network in candidates if not network.excess(bounds)]
    if not keeping:
        raise SettingError(_nothing(study, candidates, bounds, [n for n in complete if n not in candidates]))
    return _first(study, goal, keeping)


def _networks(trials: Sequence[Trial], measured: Mapping[str, Mapping[str, Value]]) -> list[_Network]:
    return [
        _Network(trial, {**trial.values, **measured.get(trial.digest, {})}, measured.get(trial.digest, {}))
        for trial in trials
    ]


def _as_finalists(study: Study, searched: Sequence[Trial]) -> list[Trial]:
    """The trials of the search whose networks had the longest training as finalists, with its values."""
    by_digest = {trial.digest: trial for trial in searched}
    return [
        replace(found, values={**found.values, **final.values}, fidelity=final.fidelity)
        for final in of_most_steps(study.finalists())
        if (found := by_digest.get(final.digest)) is not None
    ]


def _first(study: Study, goal: str, keeping: Sequence[_Network]) -> Trial:
    """The one that is best in a number, the earliest of equals."""
    turn = -1.0 if study.known(goal).maximise else 1.0
    return min(keeping, key=lambda network: (turn * network.numbers[goal].value, network.trial.number)).trial


def _under_scenarios(study: Study, name: str, names: Sequence[str]) -> list[str]:
    """The numbers that a name stands for: itself, or in several scenarios that of each.

    Raises:
        UnknownName: no network has such a number.
    """
    if name in names:
        return [name]
    found = [known for known in names if known.partition(SCENARIO_MARK)[0] == name]
    if not found:
        raise UnknownName(f"no network of study {study.name} has a number {name!r}; {nearest(name, names)}")
    return found


def _the_one(study: Study, name: str, names: Sequence[str]) -> str:
    found = _under_scenarios(study, name, names)
    if len(found) > 1:
        raise SettingError(f"{name} differs between scenarios: ask for one of {', '.join(found)}")
    return found[0]


def _bounds(study: Study, text: str, names: Sequence[str]) -> list[Constraint]:
    bound = Constraint.read(text)
    return [replace(bound, name=name) for name in _under_scenarios(study, bound.name, names)]


def _nothing(
    study: Study, candidates: Sequence[_Network], bounds: Sequence[Constraint], others: Sequence[_Network]
) -> str:
    """That no candidate keeps the bounds, which comes nearest, and by how much it misses them."""
    nearest_one = min(candidates, key=lambda network: network.excess(bounds))
    missed = []
    for bound in bounds:
        value = nearest_one.numbers[bound.name]
        if bound.excess(value.value):
            shown = number_with_error(bound.name, value)
            missed.append(f"{bound.name} {shown}, {bound.missed_by(value.value)}")
    kind = count(len(candidates), "measured network" if others else "network")
    text = (
        f"none of {kind} of study {study.name} keeps {listed(map(str, bounds))}: the nearest is trial"
        f" {nearest_one.trial.number} ({nearest_one.trial.digest}) with {listed(missed)}"
    )
    hopeful = sum(not network.excess(bounds) for network in others)
    return text + (f"; {count(hopeful, 'network')} not measured would, as predicted" if hopeful else "")
