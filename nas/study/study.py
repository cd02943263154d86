"""A study as one reads it: its space, its trials, its front.

    study = open_study("my-study")
    for trial in study.front():
        print(trial.digest, study.numbers(trial)["decode_ms"])
        print(study.spec(trial))

Reading never changes anything; `nas.search` and its kin write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from foundation.errors import SettingError, StoreError, UnknownName
from foundation.registry import nearest
from nas.default_paths import DEFAULT_STORE
from nas.pareto import nondominated
from nas.store import Measurement, Store, Unreadable
from nas.study.definition import StudyDefinition
from nas.study.frames import frame_of, row_of
from nas.study.front import LAYERS, STANDARD, Front
from nas.study.given_networks import given_network, is_given
from nas.study.marks import table_errors
from nas.study.network_lines import network_line
from nas.study.plan_objectives import is_decoder_space
from nas.study.trial import MEASURED, STAGES, Trial, TrialState, Value
from search_spaces.language.varying import Varying, varying_fields

BEST = "best"
"""What names a study's winner in the place of a trial's number; no digest has these letters."""


class Study(StudyDefinition):
    """One study in a store: what it is made of, its trials and its front."""

    def trials(self, stage: str = "search") -> list[Trial]:
        """All trials of a stage that can be read, in the order asked.

        Raises:
            UnknownName: a study has no such stage.
        """
        return self.readings(stage)[0]

    def readings(self, stage: str = "search") -> tuple[list[Trial], list[Unreadable]]:
        """The trials of a stage in the order asked, and those that cannot be read or lack an objective."""
        if stage not in STAGES:
            raise UnknownName(f"unknown stage {stage!r} of trials; {nearest(stage, STAGES)}")
        unreadable: list[Unreadable] = []
        trials = self.store.trials(self.record.id, stage, on_unreadable=unreadable.append)
        if stage != "search":
            return trials, unreadable
        wanted = set(self.plan.objectives)
        lacking = [
            trial for trial in trials if trial.state is TrialState.COMPLETE and wanted - set(trial.values)
        ]
        for trial in lacking:
            names = ", ".join(sorted(wanted - set(trial.values)))
            unreadable.append(
                Unreadable("search trial", str(trial.number), f"it is complete without {names}")
            )
        numbers = {trial.number for trial in lacking}
        return [trial for trial in trials if trial.number not in numbers], unreadable

    def complete(self, stage: str = "search") -> list[Trial]:
        """Trials with all objectives known, each architecture once (its last trial: the highest fidelity)."""
        latest: dict[str, Trial] = {}
        for trial in self.trials(stage):
            if trial.state is TrialState.COMPLETE and trial.reused is None:
                latest[trial.digest] = trial
        return list(latest.values())

    def comparable(self) -> list[Trial]:
        """Of the `complete` trials of the search those of the most training steps that any of them has.

        These are all of them, unless a scheduler stopped some early: the score of a candidate after a tenth
        of the steps says nothing beside one of a whole training.
        """
        return of_most_steps(self.complete())

    def points(self, trials: Sequence[Trial]) -> list[tuple[float, ...]]:
        """Objective values, turned so that smaller is better."""
        goals = [(objective.name, objective.maximise) for objective in self.objectives]
        return [trial.losses(goals) for trial in trials]

    def table_errors(self) -> dict[str, float]:
        """The mean errors of its latency tables on networks that were held out, by the name of the number."""
        return table_errors(self.plan, self.facts.get("tables", {}))

    def measured(self) -> dict[str, dict[str, Value]]:
        """What was measured of each network, by its digest and the name of the number: the newest counts.

        In a study of several scenarios a name says which it holds in: `decode_ms@chat`.
        """
        values: dict[str, dict[str, Value]] = {}
        for each in self.measurements():
            values.setdefault(each.digest, {})[each.name.removesuffix(MEASURED)] = each.value
        return values

    def numbers(self, trial: Trial) -> dict[str, Value]:
        """The best known value of each quantity: as measured where that was done, else predicted or counted.

        Each `Value` says in `source` how it is known; printed, a predicted one begins with `~`. A quality
        is that of the search, so the same for all networks; trainings of finalists are trials of their own.
        """
        measured = {each.name.removesuffix(MEASURED): each.value for each in self.measurements(trial.digest)}
        return {**trial.values, **measured}

    def predicted_front(self) -> list[Trial]:
        """The architectures that no other dominates, by what the search knew; sorted by the first objective.

        Where candidates were trained for different numbers of steps, see `comparable`. What measures or
        trains members of a front begins with these: it is the same before and after.
        """
        trials = self.comparable()
        kept = nondominated(self.points(trials))
        front = [trial for trial, keep in zip(trials, kept, strict=True) if keep]
        return sorted(front, key=lambda trial: self.points([trial])[0])

    def front(self) -> Front:
        """The front as it was built and measured: `predicted_front()` after its members were measured.

        A member is dropped where another one, measured in the same objectives, dominates it with the measured
        values in place of the predicted ones. Members that were not measured stay, and drop nothing: what was
        measured is not compared with what was predicted. They are sorted by the best known values, the first
        objective first; see `numbers`.
        """
        members, measured = self.predicted_front(), self.measured()
        kept = self.undominated_as_measured(members, measured)
        return Front(
            name=self.name,
            trials=tuple(kept),
            numbers={t.digest: {**t.values, **measured.get(t.digest, {})} for t in kept},
            objectives=self.plan.objectives,
            dropped=len(members) - len(kept),
            table_errors=self.table_errors,
            layers=self.layers,
            besides=(*(score.name for score in self.scores), *self.plan.zero_cost, *STANDARD),
            units=self.declared_units,
            described=self._described,
        )

    def finalists(self) -> list[Trial]:
        """The finalists that were trained from scratch, by their steps and then by the first objective.

        Their values are those of their longest training, and what was measured.
        """
        measured, longest = self.measured(), dict[str, Trial]()
        for trial in sorted(self.trials("final"), key=lambda trial: trial.fidelity.steps):
            if trial.state is TrialState.COMPLETE:
                known = {**trial.values, **measured.get(trial.digest, {})}
                longest[trial.digest] = replace(trial, values=known)
        return sorted(longest.values(), key=lambda t: (-t.fidelity.steps, self.points([t])[0]))

    def winner(self) -> Trial:
        """The network that is best in the first objective: of the finalists on the front, else of the front.

        Raises:
            SettingError: nothing was scored.
        """
        front = self.front()
        if not front:
            raise SettingError(f"study {self.name} has no network yet: `nas resume {self.name}`")
        on_front = {trial.digest for trial in front}
        finalists = [trial for trial in self.finalists() if trial.digest in on_front]
        return (finalists or list(front))[0]

    def undominated_as_measured(
        self, members: Sequence[Trial], measured: Mapping[str, Mapping[str, Value]]
    ) -> list[Trial]:
        """The members of a predicted front that are left after measuring, in order; see `front`."""
        known = [replace(t, values={**t.values, **measured.get(t.digest, {})}) for t in members]
        points = self.points(known)
        asked = {objective.name for objective in self.objectives}
        alike: dict[frozenset[str], list[int]] = {}
        for i, trial in enumerate(members):
            alike.setdefault(frozenset(asked & measured.get(trial.digest, {}).keys()), []).append(i)
        kept = [
            i
            for group in alike.values()
            for i, keep in zip(group, nondominated([points[i] for i in group]), strict=True)
            if keep
        ]
        return [members[i] for i in sorted(kept, key=lambda i: points[i])]

    def spec(self, trial: Trial) -> Any:
        """The architecture of a trial.

        Parts of classes that only the study's source defines are stand-ins with their fields, which cannot be
        built or priced; of `study.with_source()` they are whole.

        Raises:
            StoreError: its answers are none to the questions of this space.
            SettingError: it is no trial.
        """
        if not isinstance(trial, Trial):
            raise SettingError(f"{trial!r} is no trial: write study.spec(study.trial({trial!r}))")
        with self._reading(f"trial {trial.number}"):
            if is_given(trial.genotype):
                return given_network(trial.genotype)
            return self.space_as_read.draw(lambda path, labels: trial.genotype.genes[path])[1]

    @cached_property
    def varying(self) -> Varying:
        """The fields that its space leaves open, by the class of the part.

        Raises:
            StoreError: its record is malformed.
        """
        return varying_fields(self.space_as_read.root)

    def layers(self, trial: Trial) -> str:
        """The layers of a network in a line, with those of their fields that vary in the space.

        A network that cannot be read takes no others away: the line says why, or lists its genes where an
        older record says too little of classes that only the source defines.
        """
        try:
            return network_line(self.spec(trial), self.varying)
        except StoreError as error:
            if self._space_of_stand_ins is None:
                return str(error)
            return ", ".join(f"{path}={label}" for path, label in sorted(trial.genotype.genes.items()))

    @property
    def declared_units(self) -> dict[str, str]:
        """The units of objectives of a user's own; the names of the library's say theirs."""
        return {own.name: own.unit for own in self.objectives if own.unit and not own.of_decoders}

    @property
    def _described(self) -> str:
        """What a line about a network is called: its layers, or, in a space of other classes, itself."""
        with suppress(StoreError):  # a line of the table says so
            return LAYERS if is_decoder_space(self.space_as_read) else "architecture"
        return LAYERS

    def trial(self, which: str | int) -> Trial:
        """A trial by its number or by (the beginning of) its digest; the highest fidelity it reached.

        `best` names the `winner()`.

        Raises:
            SettingError: there is none, or the beginning fits several architectures.
        """
        trials = [t for stage in STAGES for t in self.trials(stage)]
        text = self.winner().digest if which == BEST else str(which)
        numbered = [t for t in trials if t.stage == "search" and str(t.number) == text]
        matching = numbered or [t for t in trials if len(text) >= 4 and t.digest.startswith(text)]
        digests = sorted({t.digest for t in matching})
        if len(digests) != 1:
            neither = "is neither the number nor the digest of a trial"
            what = f"fits {', '.join(digests[:5])}" if digests else neither
            raise SettingError(f"{which!r} {what} in study {self.name}; `nas front {self.name}` lists some")
        return matching[-1]

    def measurements(self, digest: str | None = None) -> list[Measurement]:
        """Numbers that belong to an architecture rather than to a trial, such as measured latency.

        One that cannot be read is as if it had not been measured.
        """
        return self.store.measurements(self.record.id, digest, on_unreadable=lambda unreadable: None)

    def frame(self, stage: str = "search", *, front: bool = False) -> pd.DataFrame:
        """The trials of a stage as a table, or with `front=True` the members of the front in its order.

        A row has the trial's number, digest and state, whether it is `on_front` (as measured), its
        seconds and the reason of a failure; per quantity the value and its standard error (`decode_ms`,
        `decode_ms_error`), what was measured of it (`decode_ms_measured`, in several scenarios
        `decode_ms@chat_measured`); and its genes. The units are in `frame.attrs["units"]`.
        """
        measured, members = self.measured(), self.front()
        on_front = {trial.digest for trial in members}
        rows = [
            row_of(trial, measured.get(trial.digest, {}), on_front=trial.digest in on_front)
            for trial in (members if front else self.trials(stage))
        ]
        return frame_of(rows, lambda name: self.known(name).unit)

    def __repr__(self) -> str:
        return f"<Study {self.name!r} in {self.store.url}>"


def of_most_steps(trials: Sequence[Trial]) -> list[Trial]:
    """The trials of the most training steps that any of them has."""
    most = max((trial.fidelity.steps for trial in trials), default=0)
    return [trial for trial in trials if trial.fidelity.steps == most]


def open_study(name: str, store: str | Path = DEFAULT_STORE, *, read_only: bool = True) -> Study:
    """A study by its name.

    Raises:
        StoreError: no such store.
        UnknownName: no such study in it.
    """
    opened = Store(store, read_only=read_only)
    return Study(opened, opened.study(name))
