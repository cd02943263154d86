"""What a study is made of: its settings, its space and the source of that, its objectives, its facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from foundation.errors import NasError, SettingError, StoreError, UnknownName
from foundation.wording import argument
from nas.objectives.base import Objective, objectives
from nas.store import Store, StudyRecord
from nas.store.study_paths import study_folder
from nas.store.unreadable import MALFORMED, reason_of
from nas.study.constraints import Constraint
from nas.study.objective_records import ScoredTask, known_objective, known_scores, known_task
from nas.study.plan import Plan
from nas.study.source import FOLDER, Source, recorded
from nas.study.source_loading import NeedsSource, load_copy, load_other, load_program, load_ready_made
from search_spaces.language.own_kinds import imported
from search_spaces.language.serialization import from_json
from search_spaces.language.space import Space
from search_spaces.language.stand_ins import stand_ins, unknown_kinds
from search_spaces.network.vocabulary import with_vocab


class StudyDefinition:
    """What is on record of a study before its first trial, and what only its source can add to that.

    `space` is the stored tree; constraints in code live in the source.
    """

    def __init__(self, store: Store, record: StudyRecord, space: Space | None = None) -> None:
        self.store, self.record = store, record
        self._space: Space | NasError | None = space
        self._space_of_stand_ins: Space | None = None
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

    @property
    def space_as_read(self) -> Space:
        """The space for readers: classes that only the source defines are stand-ins, and nothing is run.

        Its architectures can be looked at, not built or priced; see `search_spaces.language.absence`.

        Raises:
            StoreError: its record is malformed.
        """
        try:
            return self.space
        except NeedsSource:
            if self._space_of_stand_ins is None:
                self._space_of_stand_ins = self._with_stand_ins()
            return self._space_of_stand_ins

    def _with_stand_ins(self) -> Space:
        with self._reading("space"):
            about = self.record.config.get("space", {})
            known = imported(about.get("classes", {}))
            absent = stand_ins(self.record.space_json, known, about.get("defaults", {}))
            return Space(from_json(self.record.space_json, {**known, **absent}), name=self.record.name)

    def _stored_tree(self, kinds: Mapping[str, type] | None = None) -> Any:
        """The tree in the store, also of these kinds; nothing is run or imported for it."""
        places = self.record.config.get("space", {}).get("classes", {})
        try:
            return from_json(self.record.space_json, {**imported(places), **(kinds or {})})
        except UnknownName as error:
            unknown = unknown_kinds(self.record.space_json, {**imported(places), **(kinds or {})})
            missing = _missing({**dict.fromkeys(unknown, ""), **places}, error)
            if self.source is None or kinds is not None:
                raise NeedsSource(
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
            if self.source is None:  # only its program can
                raise
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
        loaded = with_vocab(self._defined_space(space), self.plan.vocab)
        if loaded.digest != self.record.space_digest:
            where = space or self.plan.source
            raise SettingError(
                f"the space {where} has changed since study {self.name} was started: it is now"
                f" {loaded.digest}, and was {self.record.space_digest}; search it under another name"
                f" ({argument('seed_from', self.name)} begins with its networks), or resume with the version"
                " of nas that began it"
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
        return tuple(map(self.known, self.plan.objectives))

    def known(self, name: str) -> Objective:
        """An objective by its name, registered or as on record; else a number of a user's own, a name only.

        Raises:
            StoreError: the record of its objectives is malformed.
        """
        with self._reading("objectives"):
            return known_objective(name, self.record.config)

    @cached_property
    def scores(self) -> tuple[Objective, ...]:
        """What evaluators score, also where only the source knows its task: traded off, then gates only.

        Raises:
            StoreError: the record of its objectives is malformed.
        """
        with self._reading("objectives"):
            bounded = (Constraint.read(text).name for text in self.plan.constraints)
            return known_scores([*self.plan.objectives, *bounded], self.record.config)

    @cached_property
    def quality(self) -> Objective | None:
        """The first of them, whose weights are kept; None where nothing is trained.

        Raises:
            StoreError: the record of its objectives is malformed.
        """
        return next(iter(self.scores), None)

    @cached_property
    def scored_task(self) -> ScoredTask | None:
        """What is known of the task that `quality` is the score of.

        Raises:
            StoreError: its record is malformed.
        """
        with self._reading("objectives"):
            return known_task(self.quality, self.record.config) if self.quality else None

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Errors about a malformed part of the record as one that says which part of which study it is."""
        try:
            yield
        except (SettingError, StoreError) as error:
            if isinstance(error, UnknownName) or what == "settings":
                other = "; another version of nas may have written them: read it with that one"
                told = f"{reason_of(error)}{other if isinstance(error, UnknownName) else ''}"
                raise StoreError(f"{what} of study {self.name} cannot be read: {told}") from None
            raise
        except MALFORMED as error:
            raise StoreError(f"{what} of study {self.name} cannot be read: {reason_of(error)}") from None


def _missing(places: Mapping[str, str], error: UnknownName) -> str:
    """The classes of a space that this process has not imported, with their modules where these are known."""
    missing = [name for name in places if name not in imported(places)]
    modules = {name: places[name].partition(":")[0] for name in missing}
    words = [f"{name} of {module}" if module else name for name, module in modules.items()]
    return f"its classes {', '.join(words)}" if words else f"a class that must be registered ({error})"
