"""Whether the fronts of two studies may be compared: the same objectives, scored in the same way.

A difference that makes scores incomparable raises; one that a reader should be aware of becomes a note.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import SettingError, StoreError
from foundation.text import listed
from nas.objectives.base import objectives
from nas.study.study import Study
from nas.study.tally import engine_warning
from nas.study.task import length_of
from search_spaces.scenario import Scenario


def require_comparable(studies: Sequence[Study]) -> tuple[str, ...]:
    """Notes that a reader of the comparison needs.

    Raises:
        SettingError: objectives, the scenario of one of them, or the way of scoring differ.
    """
    first, *rest = studies
    notes = [note for study in rest for note in _Pair(first, study).notes()]
    warned = [f"{study.name}: {warning}." for study in studies if (warning := engine_warning(study))]
    return tuple(dict.fromkeys([*notes, *warned]))


@dataclass(frozen=True)
class _Pair:
    """Two studies whose plans and records are compared."""

    first: Study
    second: Study

    def notes(self) -> Iterator[str]:
        """Notes about the pair; raises at the first difference that forbids a comparison."""
        first, second = self.first, self.second
        if set(first.plan.objectives) != set(second.plan.objectives):
            self.refuse("objectives", *(", ".join(study.plan.objectives) for study in (first, second)))
        registered = [name for name in first.plan.objectives if name in objectives]
        for name in registered:
            if objectives[name].per_scenario:
                yield from self.scenario_notes(name)
        for name in registered:
            if objectives[name].needs_table:
                yield from self.table_notes(name)
        if first.quality is not None:
            yield from self.quality_notes()
        if not self.same_space:
            spaces = f"{_space(first)} and {_space(second)}"
            yield f"{first.name} and {second.name} search different spaces: {spaces}."
        if set(first.plan.constraints) != set(second.plan.constraints):
            yield (
                f"Constraints differ: {first.name} has {listed(first.plan.constraints) or 'none'}"
                f" and {second.name} has {listed(second.plan.constraints) or 'none'}."
            )

    def refuse(self, setting: str, first: Any, second: Any) -> None:
        """Refuse the comparison because the studies have different values of a setting."""
        names = self.first.name, self.second.name
        raise SettingError(
            f"the fronts of {names[0]} and {names[1]} cannot be compared: {setting} differ,"
            f" {first} in {names[0]} and {second} in {names[1]}"
        )

    @property
    def same_space(self) -> bool:
        return self.first.record.space_digest == self.second.record.space_digest

    def scenario_notes(self, name: str) -> Iterator[str]:
        """Scenarios may differ in what runs the network, and in nothing else."""
        first, second = (_scenario(study, name).conditions() for study in (self.first, self.second))
        different = [key for key, value in first.items() if second[key] != value]
        if different == ["engine"]:
            yield (
                f"{name} is that of {first['engine']} in {self.first.name} and of {second['engine']} in"
                f" {self.second.name}: volumes compare the runtimes, too."
            )
        elif different:
            texts = (", ".join(f"{key}={plain[key]}" for key in different) for plain in (first, second))
            self.refuse(f"the scenarios of {name}", *texts)

    def table_notes(self, name: str) -> Iterator[str]:
        """Latencies from tables of two machines, or from a table and an estimate, are not one quantity."""
        first, second = (_table(study, name) for study in (self.first, self.second))
        methods = [
            f"the estimate {table['estimate']}" if table.get("estimate") else "a measured table"
            for table in (first, second)
        ]
        if methods[0] != methods[1]:
            self.refuse(f"the ways of predicting {name}", *methods)
        machines = [table.get("machine") for table in (first, second)]
        if all(machines) and machines[0] != machines[1]:
            self.refuse(f"the machines of {name}", *machines)
        tables = self.first.plan.latency_tables
        if first != second and not (tables and tables == self.second.plan.latency_tables):
            yield (
                f"{self.first.name} and {self.second.name} each measured their own latency table, so the same"
                " network may have slightly different latencies; give both the same --latency-table."
            )

    def quality_notes(self) -> Iterator[str]:
        """Quality must come from one text, one recipe and, over one space, from the same weights."""
        first, second = self.first, self.second
        if first.plan.evaluator != second.plan.evaluator:
            self.refuse("evaluators", first.plan.evaluator, second.plan.evaluator)
        supernets = first.plan.evaluator == "supernet"
        same_weights = supernets and self.same_weights()
        for setting, *values in self.scoring_settings(trained=not same_weights):
            if values[0] != values[1]:
                self.refuse(setting, *values)
        if self.tokenizers_differ:
            yield (
                f"{first.name} and {second.name} read one text with different tokenizers. Bits per byte can"
                " be compared, but windows of as many tokens hold more text or less: see that both read as"
                " much."
            )
        if supernets and not same_weights:
            yield self.different_weights()
        elif not supernets and first.plan.seed != second.plan.seed:
            yield f"{first.name} and {second.name} trained their networks from different seeds."

    def different_weights(self) -> str:
        """A note on two supernets; over one space they must at least have one recipe and seed."""
        names = f"{self.first.name} and {self.second.name}"
        if not self.same_space:
            return (
                f"{names} score networks with different supernets, each trained for its own space:"
                " all scores of one study may be shifted against those of the other."
            )
        if _supernet(self.first) != _supernet(self.second):
            self.refuse("shared weights", _supernet(self.first), _supernet(self.second))
        return (
            f"{names} each trained a supernet with the same recipe, and the losses differ:"
            " their weights are not identical. Pass the same supernet to both (--supernet)."
        )

    def scoring_settings(self, *, trained: bool) -> Iterator[tuple[str, Any, Any]]:
        """The settings that a score depends on, by name, with the value in both studies."""
        first, second = self.first, self.second
        if trained:
            recipes = _recipe(first), _recipe(second)
            for name in recipes[0]:
                yield f"recipes ({name})", recipes[0][name], recipes[1][name]
            yield "training steps", first.plan.train_steps, second.plan.train_steps
            yield "batch sizes", first.plan.train_batch, second.plan.train_batch
        if not self.tokenizers_differ:
            yield "window lengths", length_of(first), length_of(second)
            yield "numbers of validation windows", _windows(first), _windows(second)
        yield "texts", *self.texts()

    @property
    def corpora(self) -> list[Mapping[str, Any]]:
        """What is on record of the text of each."""
        return [study.facts.get("corpus", {}) for study in (self.first, self.second)]

    @property
    def tokenizers_differ(self) -> bool:
        """Whether one text is read as two kinds of tokens."""
        first, second = self.corpora
        same_text = self.texts()[0] == self.texts()[1]
        return same_text and first.get("tokenizer") != second.get("tokenizer")

    def texts(self) -> tuple[Any, Any]:
        """The texts by their digests, or by their paths where none is on record.

        It does not matter which tokens a text is read as, unless these leave some of it out.
        """
        digests = [
            (corpus.get("text") if corpus.get("lossless") else None) or corpus.get("digest")
            for corpus in self.corpora
        ]
        if all(digests):
            return digests[0], digests[1]
        return self.first.plan.data, self.second.plan.data

    def same_weights(self) -> bool:
        """Whether both used one training of a supernet: every step of it had the same loss."""
        first, second = self.first, self.second
        curves = [study.facts.get("supernet", {}).get("loss") for study in (first, second)]
        if all(curves):
            return bool(curves[0] == curves[1])
        trainings = [
            (study.plan.train_steps, study.plan.train_batch, _recipe(study)) for study in (first, second)
        ]
        return trainings[0] == trainings[1] and self.same_space and _supernet(first) == _supernet(second)


def _space(study: Study) -> str:
    name = study.record.config.get("space", {}).get("name", "a space")
    return f"{name} ({study.record.space_digest})"


def _scenario(study: Study, name: str) -> Scenario:
    """The scenario under which an objective is computed."""
    wanted = objectives[name].scenario
    return next((s for s in study.plan.scenarios if wanted and s.name == wanted), study.plan.scenarios[0])


def _table(study: Study, name: str) -> dict[str, Any]:
    of_scenario = study.facts.get("tables", {}).get(_scenario(study, name).name)
    table = of_scenario or study.facts.get("table") or {"estimate": study.plan.roofline}
    if not isinstance(table, dict):
        raise StoreError(f"the latency table on the record of study {study.name} cannot be read")
    return dict(table)


def _windows(study: Study) -> int | None:
    task = study.scored_task
    return study.plan.validation_windows or (task.windows if task else None)


def _recipe(study: Study) -> dict[str, Any]:
    """The settings of the recipe that the study's scores depend on."""
    recipe = study.plan.recipe
    return recipe.of_supernets() if study.plan.evaluator == "supernet" else recipe.of_networks()


def _supernet(study: Study) -> str:
    """The shared weights that a study was configured to use."""
    plan = study.plan
    return f"those in {Path(plan.supernet).resolve()}" if plan.supernet else f"those of seed {plan.seed}"
