"""Everything that can go wrong, as one tree, sorted by who must act.

* NasError
  + SpaceError            the space itself is ill-formed or unsatisfiable: fix the space
  + IllegalArchitecture   this candidate cannot exist: skip it, the search goes on
  + EvaluationFailed      this candidate could not be scored: record it, the search goes on
  + ClusterError          the Ray workers of a search are gone: fix the cluster, and resume the study
  + DataError             the text given to learn from cannot be used: fix the data
  + ProfileError          a device or its latency table cannot be used: fix the profile
  + FileError             a file cannot be written (full disk, missing permission) or is not what can be read
                          (a pipe, damaged, too large, nested too deep): fix the disk, the path or the file
  + NoFile                there is no such file (also a FileError)
  + StoreError            the study database refuses: fix the store (full disk, newer schema, other space)
  + SettingError          an argument makes no sense: fix the call
  + ConsentNeeded         what is asked for takes very long, much memory or trust: insist (a SettingError)
  + UnknownName           a name that no registry holds: fix the name (also a SettingError)

Anything else that is raised is a bug of ours and rises unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from foundation.wording import argument


class NasError(Exception):
    """Base of every error that a user or a search can act upon."""


@contextmanager
def told_of(what: str, kind: type[NasError] = NasError) -> Iterator[None]:
    """Errors of a kind that rise from within say first what they are about; they stay what they are."""
    try:
        yield
    except kind as error:
        raise type(error)(f"{what}: {error}") from None


class SpaceError(NasError):
    """The space is ill-formed, or nothing in it satisfies its constraints."""


class IllegalArchitecture(NasError):
    """One candidate cannot exist; the search skips it and goes on."""


class EvaluationFailed(NasError):
    """One candidate could not be scored (a non-finite loss, a lost worker); recorded, never fatal."""


class ClusterError(NasError):
    """Ray cannot start, its workers cannot start, or the cluster was lost; what was scored is on record."""


class DataError(NasError):
    """The corpus is empty, binary or missing."""


class ProfileError(NasError):
    """A device cannot be measured, or a latency table does not fit the question."""


class FileError(NasError):
    """A file cannot be written, or is not what can be read."""


class NoFile(FileError):
    """There is no such file."""


class StoreError(NasError):
    """The study database cannot do what was asked."""


class SettingError(NasError):
    """An argument of a call or of the command line makes no sense."""


class UnknownName(SettingError):
    """No registry holds this name."""


class ConsentNeeded(SettingError):
    """What is asked for takes very long, more memory than there is, or trust; `estimate` says how much.

    `instead` is what else there is to do.
    """

    def __init__(self, estimate: str, instead: str = "make it smaller") -> None:
        super().__init__(f"{estimate}: {instead}, or insist with {argument('yes', True)}")
        self.estimate, self.instead = estimate, instead

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.estimate, self.instead)
