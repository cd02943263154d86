"""Exports that a page asks for: one after the other, in the background, into a zip file for the browser.

Nothing is written beside the study: an export lies in a scratch folder until it is fetched, and so does the
checkpoint of a network that has to be trained again for it. A study whose space is defined by a source of its
own is not exported from here, because that would run this source; the page shows the command instead.
"""

from __future__ import annotations

import threading
import time
import zipfile
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foundation.errors import NasError, SettingError
from nas.exports.base import targets
from nas.store import Store
from nas.study.export import export
from nas.study.study import Study

LARGEST = 256 * 2**20
"""Bytes of an export that a page hands over; a larger one is written by the command."""

KEPT = 4
"""Exports that are kept until they are fetched."""


@dataclass
class Job:
    """One export: since when it runs, how it ended, and its zip file."""

    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    error: str = ""
    content: bytes = b""

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.ended or time.monotonic()) - self.began


def formats() -> list[str]:
    """The formats whose libraries are installed."""
    found = []
    for name, target in targets.items():
        try:
            target().require_libraries()
        except SettingError:
            continue
        found.append(name)
    return found


class Exports:
    """The exports of one store, one at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._jobs: OrderedDict[tuple[str, str, str], Job] = OrderedDict()
        self._busy, self._lock = threading.Lock(), threading.Lock()

    def job(self, study: str, digest: str, to: str) -> Job | None:
        """The export of a network in a format, if it was asked for."""
        return self._jobs.get((study, digest, to))

    def taken(self, study: str, digest: str, to: str) -> None:
        """Forget an export that the browser has."""
        self._jobs.pop((study, digest, to), None)

    def start(self, study: Study, digest: str, to: str) -> Job:
        """Begin an export in the background; one that runs or waits to be fetched is the same one.

        Raises:
            SettingError: there is no such format, or it would run the study's own source.
        """
        if to not in formats():
            raise SettingError(
                f"no format {to!r} whose libraries are installed; there are {', '.join(formats())}"
            )
        if study.source is not None:
            raise SettingError("its space is defined by a source of its own, which only the command runs")
        key = (study.name, digest, to)
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.error:
                job = self._jobs[key] = Job()
                threading.Thread(
                    target=self._run, args=(job, *key), name=f"export {digest}", daemon=True
                ).start()
            while len(self._jobs) > KEPT:
                self._jobs.popitem(last=False)
            return job

    def _run(self, job: Job, name: str, digest: str, to: str) -> None:
        job.error = "it ended with an error, which the terminal of the dashboard shows"
        try:
            with self._busy, TemporaryDirectory() as scratch, Store(self._url, read_only=True) as store:
                folder = Path(scratch) / f"{name}-{digest}"
                export(
                    Study(store, store.study(name)), digest, folder, to=to, scratch=Path(scratch) / "training"
                )
                job.content = zipped(folder)
                job.error = ""
        except NasError as error:
            job.error = str(error)
        finally:
            job.ended = time.monotonic()


def zipped(folder: Path) -> bytes:
    """A folder as a zip file with this folder in it.

    Raises:
        SettingError: it is too large for a page.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    held = sum(path.stat().st_size for path in files)
    if held > LARGEST:
        raise SettingError(f"it takes {held / 2**20:,.0f} MB, too much for a page: use the command")
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
    return content.getvalue()


def zip_file(content: bytes, name: str) -> dict[str, Any]:
    """A zip file as the browser saves it."""
    packed = b64encode(content).decode()
    return {"content": packed, "filename": name, "type": "application/zip", "base64": True}
