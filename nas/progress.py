"""Progress of long work: a bar on a terminal, one line in a notebook, a line now and then in a log.

nas.search(space, name="first")                     # whichever fits
nas.search(space, name="first", progress=False)     # nothing
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from foundation.errors import SettingError
from foundation.text import harmless, one_line

LINE_SECONDS = 10.0
"""Between two lines of a log, at least: later it is `LINE_SHARE` of the time that the work has taken."""

LINE_SHARE = 0.05

BAR_WIDTH = 24
"""Characters of a bar in a notebook."""

SHOWN_SECONDS = 0.5
"""Between two states of the line in a notebook."""


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
    """Bars on a terminal, lines now and then in a log; always on standard error.

    Where standard error takes no more (a full disk, a reader that has left), the work goes on in silence.
    """

    is_shown = True

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, emoji=False)

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


class Notebook(Progress):
    """One line in a notebook, which shows the work as far as it has come, and then where it ended."""

    is_shown = True

    def __init__(self) -> None:
        self._line: Any = None

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[ProgressBar]:
        """The line of the notebook, while this part of the work lasts."""
        began = time.monotonic()
        yield _NotebookBar(self._show, one_line(title), total)
        self._show(f"{one_line(title)}: done in {time.monotonic() - began:.0f} s")

    def say(self, text: str) -> None:
        """A line that stays; the work goes on in a new one."""
        self._line = None
        self._show(harmless(text))
        self._line = None

    def _show(self, text: str) -> None:
        """Put a text in the place of the one before."""
        from IPython.display import display  # a notebook has it

        shown = {"text/plain": text}
        if self._line is None:
            self._line = display(shown, raw=True, display_id=True)
        else:
            self._line.update(shown, raw=True)


class _TerminalBar(ProgressBar):
    def __init__(self, bars: Bars, title: str, total: int) -> None:
        self._bars, self._task = bars, bars.add_task(one_line(title), total=total, note="")

    def update(self, done: int, note: str = "") -> None:
        self._bars.update(self._task, completed=done, note=one_line(note))


class _LineBar(ProgressBar):
    def __init__(self, console: Console, title: str, total: int) -> None:
        self._console, self._title, self._total = console, title, total
        self._began = self._next = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + max(LINE_SECONDS, LINE_SHARE * (now - self._began))
            _print(self._console, one_line(f"{self._title}: {done}/{self._total} {note}"))


class _NotebookBar(ProgressBar):
    def __init__(self, show: Callable[[str], None], title: str, total: int) -> None:
        self._show, self._title, self._total = show, title, total
        self._began = self._next = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        if (now := time.monotonic()) >= self._next or done == self._total:
            self._next = now + SHOWN_SECONDS
            share = min(1.0, done / self._total) if self._total else 1.0
            bar = "━" * round(BAR_WIDTH * share) + "─" * (BAR_WIDTH - round(BAR_WIDTH * share))
            seconds = f"{now - self._began:.0f} s"
            self._show(one_line(f"{self._title} {bar} {done}/{self._total} {seconds} {note}"))


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
    """A line in a notebook, else bars on a terminal and lines in a log."""
    console = Console(stderr=True, highlight=False, emoji=False)
    return Notebook() if console.is_jupyter else Terminal(console)


def progress_of(given: Progress | bool | None) -> Progress:
    """The progress that a function was given: with True whichever fits, with False or None none.

    Raises:
        SettingError: it is something else.
    """
    if given is True:
        return default_progress()
    if given is False or given is None:
        return Progress()
    if not isinstance(given, Progress):
        raise SettingError(f"progress is a bool, or a nas.progress.Progress, got {given!r}")
    return given
