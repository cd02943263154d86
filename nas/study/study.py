"""A study as one reads it: its space, its trials, its front.

    study = open_study("my-study")
    for trial in study.front():
        print(trial.digest, study.numbers(trial)["decode_ms"])
        print(study.spec(trial))

Reading never changes anything; `nas.search` and its kin write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import pandas as pd

from foundation.errors import NasError, SettingError, StoreError, UnknownName
from foundation.registry import nearest
from nas.default_paths import DEFAULT_STORE
from nas.objectives.base import Objective, objectives
from nas.pareto import nondominated
from nas.store import Measurement, Store, StudyRecord, Unreadable
from nas.store.study_paths import study_folder
from nas.store.unreadable import MALFORMED, reason_of
from nas.study.frames import frame_of, row_of
from nas.study.front import Front
from nas.study.marks import table_errors
from nas.study.objective_records import known_objective
from nas.study.plan import Plan
from nas.study.source import FOLDER, Source, recorded
from nas.study.source_loading import NeedsSource, load_copy, load_other, load_program, load_ready_made
from nas.study.trial import MEASURED, STAGES, Trial, TrialState, Value
from search_spaces.language.own_kinds import imported
from search_spaces.language.serialization import from_json
from search_spaces.language.space import Space


class Study:
    """One study in a store; `space` is the stored tree (constraints in code live in the space's source)."""

    def __init__(self, store: Store, record: StudyRecord, space: Space | None = None) -> None:
        self.store, self.record = store, record
        self._space: Space | NasError | None = space
        self.functions: Mapping[str, Callable[..., Any]] = {}
        """Objectives that are functions of a program, once its source was run."""

    @property
    def name(self) -> str:
        """The study's name."""
        return self.record.name

    @property
    def space(self) -> Space:
        """The space that is searched, read once.

        Raises:
            SettingError: only a Python program can read it.
            StoreError: its record is malformed.
        """
        if self._space is None:
            try:
                with self._reading("space"):
                    self._space = Space(self._stored_tree(), name=self.record.name)
            except NasError as error:  # every trial would ask for it again, and it may be megabytes
                self._space = error
        if isinstance(self._space, NasError):
            raise self._space
        return self._space

    def _stored_tree(self, kinds: Mapping[str, type] | None = None) -> Any:
        """The tree in the store, also of these kinds; nothing is run or imported for it."""
        places = self.record.config.get("space", {}).get("classes", {})
        try:
            return from_json(self.record.space_json, {**imported(places), **(kinds or {})})
        except UnknownName as error:
            missing = _missing(places, error)
            if self.source is None or kinds is not None:
                raise SettingError(
                    f"study {self.name} was started in Python, over {missing}: read it in the program that"
                    " defines or imports them"
                ) from None
            raise NeedsSource(
                f"study {self.name} is over {missing}, which only its source defines; reading does not run"
                " that (in Python: study.with_source() does)"
            ) from None

    def with_source(self, space: str | None = None) -> Self:
        """This study, with all that its space is made of: its own copy of the source is run if need be.

        `space` (`FILE.py[:NAME]`) is run in its place.

        Raises:
            SettingError: only a Python program can read it, or its copy is missing or damaged.
        """
        if space is None and not self._needs_source():
            return self
        again = copy(self)
        if space is None and again._is_of_program():
            again._space = again._space_of_program()
        else:
            again._space = again.reloaded_space(space)
        return again

    def _is_of_program(self) -> bool:
        """Whether its source is that of a program, which defines no space but what one is made of."""
        return self.source is not None and self.source.parts is not None

    def _needs_source(self) -> bool:
        """Whether its space, or what it trades off, is unknown until its source was run."""
        try:
            self.space  # noqa: B018
        except NeedsSource:
            return True
        if self._is_of_program():
            return False
        return self.source is not None and any(name not in objectives for name in self.plan.objectives)

    def reloaded_space(self, space: str | None = None) -> Space:
        """The space from where it is defined, or from the store where it has no constraints in code.

        That is the study's own copy of the file it was started with, or the file `space`.

        Raises:
            SettingError: only a Python program can continue this study, or its space is gone or has changed.
        """
        loaded = self._defined_space(space)
        if loaded.digest != self.record.space_digest:
            where = space or self.plan.source
            raise SettingError(
                f"the space {where} has changed since study {self.name} was started: it is now"
                f" {loaded.digest}, and was {self.record.space_digest}"
            )
        defined = self.functions
        if own := [n for n in self.plan.objectives if n not in objectives and n not in defined]:
            raise SettingError(
                f"study {self.name} trades off {', '.join(own)}, functions of a Python program: run that"
                " again to resume it"
            )
        return loaded

    def _defined_space(self, space: str | None) -> Space:
        source = self.source
        if space is not None:
            return load_other(self.name, source, space)
        if source is not None:
            return self._space_of_program(whole=True) if source.parts else load_copy(self.name, source)
        if self.plan.source is None:
            self._require_whole(self.space)
            return self.space
        return load_ready_made(self.name, self.plan.source)

    def _space_of_program(self, *, whole: bool = False) -> Space:
        """The space of a program that is gone, of what its source defines; `whole` with all its rules.

        Raises:
            SettingError: the copy of the source is missing or damaged, or lacks something.
        """
        assert self.source is not None
        program = load_program(self.name, self.source)
        with self._reading("space"):
            tree = self._stored_tree(program.kinds)
            space = Space(tree, constraints=program.constraints, name=self.record.name)
        self.functions = program.functions
        if whole:
            self._require_whole(space)
        return space

    def _require_whole(self, space: Space) -> None:
        """Raise `SettingError` where a space lacks rules that only a program has."""
        if space.digest != self.record.space_digest:
            raise SettingError(
                f"study {self.name} was started in Python, over a space with rules in code: run its program"
                " again to resume it"
            )

    @property
    def source(self) -> Source | None:
        """The files that define its space, as the study's own copy; None where a file never did.

        Raises:
            StoreError: the record of them is malformed.
        """
        with self._reading("source"):
            plain = self.record.config.get("source")
            return None if plain is None else recorded(plain, self.folder.resolve() / FOLDER)

    @cached_property
    def plan(self) -> Plan:
        """The settings it was started with.

        Raises:
            StoreError: their record is malformed, or of a newer nas.
        """
        with self._reading("settings"):
            return Plan.from_plain(self.record.config["plan"])

    @property
    def folder(self) -> Path:
        """Where its files live: checkpoints, the latency table, the report."""
        return study_folder(self.store.url, self.name)

    @property
    def facts(self) -> dict[str, Any]:
        """What was found out on the way: the corpus, the supernet's training, the table's error.

        Raises:
            StoreError: one is no object.
        """
        facts = dict(self.store.study(self.name).config.get("facts", {}))
        if wrong := [name for name, fact in facts.items() if not isinstance(fact, dict)]:
            raise StoreError(f"facts of study {self.name} cannot be read: {', '.join(wrong)} is no object")
        return facts

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What is traded off; what its source defines is as on record, a user's function a name only.

        Raises:
            StoreError: their record is malformed.
        """
        with self._reading("objectives"):
            return tuple(known_objective(name, self.record.config) for name in self.plan.objectives)

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

    def points(self, trials: Sequence[Trial]) -> list[tuple[float, ...]]:
        """Objective values, turned so that smaller is better."""
        return [
            tuple(-t.values[o.name].value if o.maximise else t.values[o.name].value for o in self.objectives)
            for t in trials
        ]

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

        What measures or trains members of a front begins with these: it is the same before and after.
        """
        trials = self.complete()
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
        )

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

        Raises:
            StoreError: its answers are none to the questions of this space.
            SettingError: it is no trial.
        """
        if not isinstance(trial, Trial):
            raise SettingError(f"{trial!r} is no trial: write study.spec(study.trial({trial!r}))")
        with self._reading(f"trial {trial.number}"):
            return self.space.draw(lambda path, labels: trial.genotype.genes[path])[1]

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Errors about a malformed part of the record as one that says which part of which study it is."""
        try:
            yield
        except (SettingError, StoreError) as error:
            if isinstance(error, UnknownName) or what == "settings":
                raise StoreError(f"{what} of study {self.name} cannot be read: {reason_of(error)}") from None
            raise
        except MALFORMED as error:
            raise StoreError(f"{what} of study {self.name} cannot be read: {reason_of(error)}") from None

    def trial(self, which: str | int) -> Trial:
        """A trial by its number or by (the beginning of) its digest; the highest fidelity it reached.

        Raises:
            SettingError: there is none, or the beginning fits several architectures.
        """
        trials = [t for stage in STAGES for t in self.trials(stage)]
        text = str(which)
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
        return frame_of(rows)

    def __repr__(self) -> str:
        return f"<Study {self.name!r} in {self.store.url}>"


def _missing(places: Mapping[str, str], error: UnknownName) -> str:
    """The classes of a space that this process has not imported, with their modules."""
    missing = [name for name in places if name not in imported(places)]
    words = [f"{name} of {places[name].partition(':')[0]}" for name in missing]
    return f"its classes {', '.join(words)}" if words else f"a class that must be registered ({error})"


def open_study(name: str, store: str | Path = DEFAULT_STORE, *, read_only: bool = True) -> Study:
    """A study by its name.

    Raises:
        StoreError: no such store.
        UnknownName: no such study in it.
    """
    opened = Store(store, read_only=read_only)
    return Study(opened, opened.study(name))
