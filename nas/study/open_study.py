"""A study as a Python program asks it: all that the command line can, with the same words.

study = nas.open("first")
study.front()
study.best("bits_per_byte", where=["decode_ms<1.5", "weight_bytes<250kB"])
print(study.compare(3, 17))
study.export(17, "winner")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foundation.errors import SettingError
from foundation.settings import check_flag
from foundation.wording import argument
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.plugins import figure_maker, report_writer
from nas.progress import Progress, progress_of
from nas.store import Store, StudyRecord
from nas.study.best import best_of
from nas.study.difference import NetworkDifference, difference_of
from nas.study.lineage import Ancestor, Parent, lineage_of, parents_of
from nas.study.study import Study
from nas.study.tally import tally_of
from nas.study.trial import Trial
from search_spaces.language.space import Space

if TYPE_CHECKING:
    from nas.replay import Replayed
    from nas.validation.validate import Validation


class OpenStudy(Study):
    """A study in the database `location`, read; what `validate` finds out is added to it.

    A network is named by its trial, by the trial's number, by the beginning of its digest, or as
    `best`: see `winner()`.
    """

    def __init__(
        self, store: Store, record: StudyRecord, space: Space | None = None, *, location: str | Path
    ) -> None:
        super().__init__(store, record, space)
        self._location = location

    def best(self, objective: str, where: Sequence[str] = ()) -> Trial:
        """The scored network with the best `objective` among those that keep the bounds `where`.

        By the best known values, measured before predicted; see `nas.study.best.best_of`.

        Raises:
            SettingError: a bound cannot be read, or nothing keeps them: the message names the nearest.
            UnknownName: no network of the study has such a number.
        """
        return best_of(self, objective, where)

    def compare(self, first: Trial | str | int, second: Trial | str | int) -> NetworkDifference:
        """Two networks side by side: their layers, their numbers, and how significantly these differ."""
        return difference_of(self, self._named(first), self._named(second))

    def parents(self, trial: Trial | str | int) -> tuple[Parent, ...]:
        """The trials that the strategy made this one of, and the genes that changed; empty for a random draw.

        Raises:
            SettingError: nothing is on record about it.
        """
        return parents_of(self, self._named(trial))

    def lineage(self, trial: Trial | str | int) -> tuple[Ancestor, ...]:
        """The trial and all that it descends from, newest first.

        Raises:
            SettingError: nothing is on record about it.
        """
        return lineage_of(self, self._named(trial))

    def export(
        self,
        trial: Trial | str | int,
        output: str | Path,
        *,
        to: str = "nas",
        force: bool = False,
        space: str | None = None,
        progress: Progress | bool | None = True,
    ) -> Path:
        """Write a network with its best weights into the folder `output`; `nas.load(output)` reads it.

        `to` is another format, `NAME[,SETTING=VALUE...]` (`nas targets`). What only the source of its space
        defines is run from the study's copy, or from the file `space`. Weights that were not kept are trained
        again, which is told.

        Raises:
            SettingError: there are no weights for it; the format cannot hold it; the folder holds something
                else, or an export and no `force`.
            FileError: it cannot be written.
        """
        from nas.study.export import export

        digest = self._named(trial).digest
        shown = progress_of(progress)
        return export(self, digest, output, to=to, force=force, space=space, progress=shown)[0]

    def report(self, output: str | Path | None = None) -> Path:
        """Write the report, one HTML file, by default into the study's folder; its path.

        Raises:
            SettingError: no package that writes reports is installed; it is no path.
            FileError: it cannot be written.
        """
        write = report_writer()
        if write is None:
            raise SettingError("no package that writes reports is installed (entry point nas.reports)")
        if output == "" or not isinstance(output, (str, Path, type(None))):
            raise SettingError(f"the file of a report is a path, got {output!r}")
        return write(self, None if output is None else Path(output))

    def figure(self, name: str = "front") -> Any:
        """A figure of the study as its report draws it: a Plotly figure, which a notebook shows.

        Raises:
            SettingError: no package that draws figures is installed.
            UnknownName: there is no such figure; the message names the nearest.
        """
        draw = figure_maker()
        if draw is None:
            raise SettingError("no package that draws figures is installed (entry point nas.figures)")
        return draw(self, name)

    def validate(
        self,
        *,
        scratch_networks: int = 12,
        train_steps: int | None = None,
        random_baseline: int | None = None,
        workers: int | str | Workers = 0,
        progress: Progress | bool | None = True,
        yes: bool = False,
        space: str | None = None,
    ) -> Validation:
        """Show how far the study can be trusted: its proxy against training, its front against chance.

        `scratch_networks` random ones are trained from scratch for `train_steps`; the search is compared with
        `random_baseline` random ones. Printed, the result is in words. Can be stopped and repeated; `space`
        as in `export`.

        Raises:
            NothingToCompare: neither can be judged, or there are fewer networks than are asked for.
            SettingError: the study trains nothing, has not begun to, or an argument makes no sense.
            ConsentNeeded: it would take over a week, or more memory than there is; not asked for with `yes`.
        """
        from nas.validation.settings import ValidationSettings
        from nas.validation.validate import validate_study

        settings = ValidationSettings(
            scratch_networks=scratch_networks, train_steps=train_steps, random_baseline=random_baseline
        )
        pool, shown = Workers.of(workers), progress_of(progress)
        check_flag("yes", yes)
        pool.check(say=shown.say)
        with self._opened_whole(space) as study:
            return validate_study(study, settings, pool, shown, yes=yes)

    def replay(self, *, space: str | None = None, progress: Progress | bool | None = True) -> Replayed:
        """Derive every proposal of the search again, up to the first that differs from the record.

        Nothing is scored: what the strategy heard is on record, in the order in which it heard it. `space` as
        in `export`.

        Raises:
            SettingError: there are no trials, or the order of their outcomes is not on record.
        """
        from nas.replay import replay_study

        with self._opened_whole(space) as study:
            return replay_study(study, progress_of(progress))

    @contextmanager
    def _opened_whole(self, space: str | None) -> Iterator[Study]:
        """The study to work on, with all the rules of its space."""
        known = self.with_source(space).space
        if known.digest != self.record.space_digest:  # constraints in code are not in the store
            known = self.reloaded_space(space)
        with Store(self._location) as opened:
            yield Study(opened, opened.study(self.name), known)

    def resume(
        self,
        *,
        also_train: Sequence[Trial | str | int] = (),
        space: str | None = None,
        keep_source: bool = False,
        workers: int | str | Workers = 0,
        progress: Progress | bool | None = True,
        yes: bool = False,
        **settings: Any,
    ) -> OpenStudy:
        """Go on after any stop, as `nas resume` does; `trials=500` extends a study. The study as it is then.

        Of the `settings` only those may change that `nas resume --help` lists. `also_train` are trained from
        scratch with the finalists. What only its source defines is run from the study's copy, or from the
        file `space`; with `keep_source` also where the original was edited.

        Raises:
            SettingError: a setting makes no sense, the source was edited, or only its program can resume it.
            UnknownName: there is no such setting, or it may not change.
            ConsentNeeded: it would take over a week, or more memory than there is; not asked for with `yes`.
        """
        from nas.strategies.foreign import require_consent
        from nas.study.resuming import resume

        require_consent(self.plan.strategy, yes)
        study = resume(
            self,
            store=self._location,
            settings=settings,
            also_train=also_train,
            space=space,
            keep_source=keep_source,
            workers=workers,
            progress=progress,
            yes=yes,
        )
        asked = OpenStudy(study.store, study.record, study.space, location=self._location)
        shown = progress_of(progress)
        if shown.is_shown and report_writer():
            shown.say(f"report: {asked.report()}")
        return asked

    def copy(self, new: str | None = None, *, to: str | Path | None = None) -> OpenStudy:
        """A copy with all its files, which goes on by itself: of another name, or in the store `to`.

        Raises:
            SettingError: neither is given, or the name can be none.
            StoreError: the name is taken, or a process works on the study.
            FileError: a file cannot be copied.
        """
        from nas.store.moving import copy_study

        if new is None and to is None:
            raise SettingError(f"name the copy, or say with {argument('to')} which store it goes to")
        place, name = self._location if to is None else to, self.name if new is None else new
        with Store(self._location, read_only=True) as origin, Store(place) as target:
            copy_study(origin, self.name, target, name)
        return open_study(name, place)

    def rename(self, new: str) -> OpenStudy:
        """Give the study another name, with all its files; the study under that name.

        Raises:
            SettingError: the name can be none.
            StoreError: the name is taken, or a process works on the study.
            FileError: a file cannot be moved.
        """
        from nas.store.moving import move_study

        with Store(self._location) as opened:
            move_study(opened, self.name, new)
        return open_study(new, self._location)

    def merge(self, *others: str, into: str) -> OpenStudy:
        """A new study with the trials, measurements and files of this one and of others in its database.

        It has the settings of this one, and goes on like any other.

        Raises:
            SettingError: their scores do not mean the same, or the name can be none.
            StoreError: the name is taken, or a process works on one of them.
            FileError: a file cannot be copied.
        """
        from nas.study.merging import merge

        with Store(self._location) as opened:
            merge(opened, [self.name, *others], into)
        return open_study(into, self._location)

    def remove(self) -> None:
        """Remove the study with all its files.

        Raises:
            StoreError: a process works on it.
            FileError: a file cannot be removed.
        """
        from nas.store.moving import remove_study

        with Store(self._location) as opened:
            remove_study(opened, self.name)

    def _named(self, trial: Trial | str | int) -> Trial:
        return trial if isinstance(trial, Trial) else self.trial(trial)

    def _repr_html_(self) -> str:
        tally = tally_of(self)
        about = f"{self.name}: {tally.distinct:,} architectures scored, planned {tally.planned:,}"
        return f"<p>{escape(about)}</p>{self.front()._repr_html_()}"


def open_study(name: str, store: str | Path = DEFAULT_STORE, *, read_only: bool = True) -> OpenStudy:
    """A study by its name, in the database `store`.

    Raises:
        StoreError: no such store.
        UnknownName: no such study in it.
    """
    opened = Store(store, read_only=read_only)
    return OpenStudy(opened, opened.study(name), location=store)
