"""Progress of long work: a bar on a terminal, a line now and then elsewhere, nothing where not wanted."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from foundation.errors import SettingError
from foundation.text import harmless, one_line

LINE_SECONDS = 10.0


class Progress:
    """Silent progress; the base class."""

    is_shown: ClassVar[bool] = False
    """Whether somebody sees it."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[ProgressBar]:
        """A part of the work with `total` steps."""
        yield ProgressBar()

    def say(self, text: str) -> None:
        """A line that stays."""


class ProgressBar:
    """One part of the work, shown as far as it has come."""

    def update(self, done: int, note: str = "") -> None:
        """`done` of the total; `note` is shown beside it."""


class Terminal(Progress):
    """Bars on a terminal, lines at most every ten seconds in a log; always on standard error.

    Where standard error takes no more (a full disk, a reader that has left), the work goes on in silence.
    """

    is_shown = True

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[ProgressBar]:
        """A bar, or lines where standard error is no terminal."""
        began = time.monotonic()
        if self.console.is_terminal:
            with _bars(self.console) as bars:
                yield _TerminalBar(bars, title, total)
        else:
            yield _LineBar(self.console, title, total)
        self.say(f"{title}: done in {time.monotonic() - began:.0f} s")

    def say(self, text: str) -> None:
        """A line that stays."""
        _print(self.console, harmless(text))


class Notebook(Terminal):
    """A bar in a notebook while its part of the work lasts; it leaves no line."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[ProgressBar]:
        """A bar that goes away."""
        with _bars(self.console) as bars:
            yield _TerminalBar(bars, title, total)


class _TerminalBar(ProgressBar):
    def __init__(self, bars: Bars, title: str, total: int) -> None:
        self._bars, self._task = bars, bars.add_task(one_line(title), total=total, note="")

    def update(self, done: int, note: str = "") -> None:
        self._bars.update(self._task, completed=done, note=one_line(note))


class _LineBar(ProgressBar):
    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, total
        self._next = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LINE_SECONDS
            _print(self._console, one_line(f"{self._title}: {done}/{self._total} {note}"))


def _print(console: Console, text: str) -> None:
    with contextlib.suppress(OSError):
        console.print(text, soft_wrap=True, markup=False)


def _bars(console: Console) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=console,
        transient=True,
    )


def default_progress() -> Progress:
    """Bars for people at a terminal or a notebook, silence for programs.

    A notebook shows bars by ipywidgets; without them, lines.
    """
    console = Console(stderr=True, highlight=False)
    if console.is_jupyter:
        return Notebook(console) if find_spec("ipywidgets") else Terminal(console)
    return Terminal(console) if sys.stderr.isatty() else Progress()


def progress_of(given: Progress | None) -> Progress:
    """The progress that a function was given, or the default one.

    Raises:
        SettingError: it is something else.
    """
    if given is None:
        return default_progress()
    if not isinstance(given, Progress):
        raise SettingError(f"progress is a nas.progress.Progress, got {given!r}")
    return given
