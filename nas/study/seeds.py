"""What a search begins with: candidates of other studies and of the zoo, and what is known of them.

They are read when a study is created, and kept on its record, so that it goes on, and proposes the same, when
the other study has grown or is gone.

A network of another study is looked for in this space whole. One that is not there has its answers taken
over, by path and label, where every question of this space finds one: another network, so a candidate
without values. A value means the same here where it is counted, or comes from equal training; else it is
`unlike`, and a strategy that learns from it must find out how far it can be trusted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import IllegalArchitecture, SettingError, StoreError
from foundation.text import count
from foundation.wording import argument
from nas.study.merging import FREE, scoring_difference
from nas.study.plan import Plan
from nas.study.plan_objectives import scored_names
from nas.study.seed import Seed
from nas.study.study import Study, open_study
from nas.study.trial import Trial, Value
from search_spaces.language.genotype import Genotype, Label
from search_spaces.language.space import Space
from search_spaces.zoo import zoo

RECORD = "seeds"
"""Where a study's record keeps them."""

ZOO = "zoo"

MOST = 500
"""Networks that are taken over from one study: its front, and others evenly spread over its trials."""


def seeds_of(study: Study) -> list[Seed]:
    """What a study was begun with.

    Raises:
        StoreError: its record is malformed.
    """
    try:
        return [Seed.from_plain(plain) for plain in study.record.config.get(RECORD, ())]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"study {study.name}: its record of {RECORD} is malformed: {error!r}") from None


def described_seeds(
    space: Space, plan: Plan, store: str | Path, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """The seeds that a plan asks for as plain values; what does not fit is said with counts.

    Raises:
        UnknownName: there is no such study.
        SettingError: nothing of all sources lies in the space, or one has nothing scored.
    """
    seeds, unfit = dict[Genotype, Seed](), list[str]()
    for source in plan.seed_from:
        found = _of_zoo(space) if source == ZOO else _of_study(space, plan, open_study(source, store))
        kept = [seed for seed in found.seeds if space.objection(space.draw_genotype(seed.genotype)) is None]
        said = found.said(source, len(found.seeds) - len(kept))
        if kept:
            say(said)
        else:
            unfit.append(f"{argument('seed_from', source)}: nothing to begin with: {said}")
        for seed in kept:
            seeds.setdefault(seed.genotype, seed)
    if not seeds:
        raise SettingError("; ".join(unfit))
    for line in unfit:
        say(line)
    firsts = _spread([seed for seed in seeds.values() if seed.first], plan.seeds_first)
    chosen = {seed.genotype for seed in firsts}
    return [{**seed.to_plain(), "first": seed.genotype in chosen} for seed in seeds.values()]


@dataclass(frozen=True)
class _Found:
    """The seeds of a source, and how many of its networks are none, by the reason."""

    seeds: Sequence[Seed]
    left: Mapping[str, int]

    def said(self, source: str, refused: int) -> str:
        """What was taken over, in a line."""
        exact = sum(bool(seed.values) for seed in self.seeds)
        parts = [f"{count(len(self.seeds) - refused, 'network')} taken over"]
        if source != ZOO:
            parts.append(f"{exact:,} with their values")
        parts += [f"{number:,} left out: {why}" for why, number in self.left.items()]
        parts += [f"{refused:,} left out: not allowed in this space"] if refused else []
        unlike = sorted({name for seed in self.seeds for name in seed.unlike})
        parts += [f"{', '.join(unlike)} measured otherwise there, and trusted less"] if unlike else []
        return f"from {source}: {', '.join(parts)}"


def _of_zoo(space: Space) -> _Found:
    seeds, left = [], Counter[str]()
    for name in sorted(zoo):
        try:
            seeds.append(Seed(space.genotype_of(zoo[name].spec), f"{ZOO}:{name}", first=True))
        except IllegalArchitecture:
            left["not in this space"] += 1
    return _Found(seeds, left)


def _of_study(space: Space, plan: Plan, study: Study) -> _Found:
    scored = study.comparable()
    if not scored:
        raise SettingError(f"{argument('seed_from', study.name)}: that study has no scored trial")
    front = study.predicted_front()
    best = {trial.digest for trial in front}
    others = _spread([trial for trial in scored if trial.digest not in best], max(0, MOST - len(front)))
    same_space = study.record.space_digest == space.digest
    means_other = _otherness(study.plan, plan)
    seeds, left = [], Counter[str]()
    for trial in [*front, *others]:
        genotype, same = (trial.genotype, True) if same_space else _mapped(space, study, trial)
        if isinstance(genotype, str):
            left[genotype] += 1
            continue
        values = {n: v for n, v in trial.values.items() if same and n in plan.objectives}
        unlike = frozenset(name for name, value in values.items() if means_other(name, value))
        seeds.append(Seed(genotype, study.name, values, unlike, trial.digest in best))
    return _Found(seeds, left)


def _otherness(theirs: Plan, ours: Plan) -> Callable[[str, Value], bool]:
    """Tells whether a value of an objective under another plan may mean something else under ours."""
    apart = scoring_difference(theirs, ours, (*FREE, "objectives"))
    same_weights = ours.supernet is not None and ours.supernet == theirs.supernet
    trained_anew = scored_names(ours) if ours.evaluator == "supernet" and not same_weights else ()

    def means_other(name: str, value: Value) -> bool:
        return value.source != "counted" and (bool(apart) or value.is_predicted or name in trained_anew)

    return means_other


def _mapped(space: Space, study: Study, trial: Trial) -> tuple[Genotype | str, bool]:
    """The network in this space, and whether it is the same one; else why it is not there."""
    try:
        return space.genotype_of(study.spec(trial)), True
    except (IllegalArchitecture, StoreError):
        pass
    try:
        return space.draw(_TakenOver(trial.genotype.genes))[0], False
    except IllegalArchitecture as error:
        return str(error), False


class _TakenOver:
    """Answers from elsewhere, by path and label."""

    def __init__(self, genes: Mapping[str, Label]) -> None:
        self._genes = genes

    def __call__(self, path: str, labels: Iterable[Label]) -> Label:
        if path not in self._genes:
            raise IllegalArchitecture(f"no answer for {path}")
        label = self._genes[path]
        if not any(type(own) is type(label) and own == label for own in labels):
            raise IllegalArchitecture(f"{path} cannot be {label!r}")
        return label


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    """At most so many of them, evenly spaced, both ends among them."""
    if len(items) <= number:
        return list(items)
    if number < 2:
        return list(items[:number])
    return [items[round(i * (len(items) - 1) / (number - 1))] for i in range(number)]
