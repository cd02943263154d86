"""What a training that runs says of itself while it runs: a small file beside its checkpoints, now and then.

    with LiveNote(folder, training) as note:
        note.tell(loss)                       # as often as one likes: most calls compare two times

It is for readers of a study, the dashboard first: how far, how fast, at what share of the device's peak. The
training depends on nothing of it. The file goes with the training; of one that was killed it stays, and is
known by its age (`read_live`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from evaluators.training.pace import Pace
from evaluators.training.trainable import Trainable
from foundation.errors import FileError
from foundation.fields import Field
from foundation.files import read_json

FOLDER = "live"
TELL_SECONDS = 5.0
"""Time between two notes."""

OLD_SECONDS = 30.0
"""A note that is older is of a training that was killed, or waits for something."""

NOTE_BYTES, MOST_NOTES = 2**12, 200
"""The largest note that is read, and so many in one folder."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Live:
    """A training that runs: steps done of `steps`, the last loss, how fast it is now.

    `peak_share` is None where the device's peak or the work of a step is not known. `told` is when it said
    so, in seconds since 1970.
    """

    step: int
    steps: int
    loss: float
    tokens_per_second: float
    peak_share: float | None
    told: float


class LiveNote:
    """The note of one training; without a folder it is told nowhere."""

    def __init__(self, folder: Path | None, training: Trainable, pace: Pace, *, writes: bool = True) -> None:
        self._folder = folder / FOLDER if folder is not None and writes else None
        self._training, self._pace = training, pace
        self._path: Path | None = None
        self._told = time.monotonic()

    def tell(self, loss: float) -> None:
        """Write the note, where the last one is old enough; a disk that is full does not end a training."""
        if time.monotonic() - self._told < TELL_SECONDS or self._folder is None or not self._pace.tokens:
            return
        self._told = time.monotonic()
        share = self._pace.peak_share_now
        note = {
            "step": self._training.step,
            "steps": self._training.steps,
            "loss": round(loss, 4),
            "tokens_per_second": round(self._pace.tokens_now),
            **({} if share is None else {"peak_share": round(share, 4)}),
            "told": time.time(),
        }
        try:
            if self._path is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._path = self._folder / f"{self._training.trajectory.digest}.json"
            # not flushed to the disk: nobody needs it after a power cut
            scratch = self._path.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps(note), encoding="utf-8")
            os.replace(scratch, self._path)
        except OSError as error:
            _log.warning("WARNING: how fast a training is cannot be told: %s", error)
            self._folder = None

    def __enter__(self) -> LiveNote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):  # others may have notes in the folder
                self._path.unlink(missing_ok=True)
                self._path.parent.rmdir()


def read_live(folder: Path, now: float | None = None) -> Iterator[Live]:
    """The trainings that run under a folder of a study: notes in `FOLDER` of each folder in it, not too old.

    Notes that cannot be read are left out: they may be written just now.
    """
    now = time.time() if now is None else now
    for path in sorted(folder.glob(f"*/{FOLDER}/*.json"))[:MOST_NOTES]:
        try:
            live = _live(Field(read_json(path, at_most=NOTE_BYTES)))
        except FileError:
            continue
        if now - OLD_SECONDS <= live.told:
            yield live


def _live(note: Field) -> Live:
    share = note.get("peak_share", -1.0).number(least=-1)
    return Live(
        int(note.get("step", 0).number(least=0)),
        int(note.get("steps", 0).number(least=0)),
        note.get("loss", 0.0).number(),
        note.get("tokens_per_second", 0.0).number(least=0),
        None if share < 0 else share,
        note.get("told", 0.0).number(least=0),
    )
