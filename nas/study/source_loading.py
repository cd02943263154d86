"""Running the source of a study's space: its own copy, or a file that is named for it.

What a record says alone runs nothing, and a copy is run only while it is what the record's hashes say.
"""

from __future__ import annotations

from foundation.errors import FileError, NoFile, SettingError, SpaceError, UnknownName
from foundation.text import listed
from foundation.wording import argument
from nas.study.source import Source, original_of, source_of
from nas.study.source_program import Program, run_program
from nas.study.space_files import FILE, load_space
from search_spaces.language.space import Space


class NeedsSource(SettingError):
    """What is asked of a study needs classes that only its source defines, and that were not run."""


def load_copy(study: str, source: Source) -> Space:
    """The space, by running the study's own copy.

    Raises:
        SettingError: the copy is missing, damaged, or cannot be run.
    """
    try:
        return source.load()
    except NoFile as error:
        raise SettingError(f"study {study} needs the copy of its source: {error}; {_pass(source)}") from None
    except (FileError, SpaceError, UnknownName) as error:
        raise SettingError(f"study {study} needs its space again: {error}; {_pass(source)}") from None


def load_program(study: str, source: Source) -> Program:
    """What the program defined that began the study, by running the study's own copy of its definitions.

    Raises:
        SettingError: the copy is missing, damaged, or cannot be run.
    """
    try:
        return run_program(source)
    except (FileError, SpaceError) as error:
        raise SettingError(
            f"study {study} needs what its program defined: {error}; run {source.origin}, or the program that"
            " imports it, again: this renews the copy"
        ) from None


def load_other(study: str, source: Source | None, space: str) -> Space:
    """The space of `FILE.py[:NAME]`, which must be the source that the study was begun with.

    Raises:
        SettingError: it is another one.
        SpaceError: it cannot be run.
    """
    if FILE.fullmatch(space) is None:
        raise SettingError(f"{argument('space')} names a file, FILE.py or FILE.py:NAME, got {space!r}")
    loaded = load_space(space)
    given = source_of(space)
    if source is not None and given is not None and (differs := difference(source, given)):
        raise SettingError(
            f"{space} is not the source that study {study} was begun with: {differs}; search it under"
            " another name"
        )
    return loaded


def load_ready_made(study: str, space: str) -> Space:
    """The ready-made space of a name on record; a file on record is not run.

    Raises:
        SettingError: there is none of this name, or it is a file.
    """
    if FILE.fullmatch(space):
        raise SettingError(
            f"study {study} has no copy of its source, and a path on record is not run: pass"
            f" {argument('space', space)} if that is the file it was begun with"
        )
    try:
        return load_space(space)
    except (SpaceError, UnknownName) as error:
        raise SettingError(f"study {study} needs its space again: {error}") from None


def require_unchanged(study: str, source: Source | None, later: Source | None = None) -> None:
    """Refuse to go on under a source whose original was edited; `later` is what it is now, if known.

    An original that was moved or deleted is no obstacle.

    Raises:
        SettingError: with what was changed.
    """
    if source is None:
        return
    later = later or original_of(source)
    if later is not None and (differs := difference(source, later)):
        raise SettingError(
            f"{source.origin} was edited since study {study} was begun ({differs}): `nas resume {study}"
            " --keep-source` continues with the source it was begun with; to search the new one, choose"
            " another name"
        )


def difference(source: Source, other: Source) -> str:
    """What differs between two versions, in words, comments aside; empty where they say the same."""
    if not (files := source.differing(other)):
        return ""
    try:
        source.check()
        return listed(source.changes(other))
    except FileError:  # without a copy that is whole, only the hashes can be compared
        return f"another SHA-256 of {listed(dict.fromkeys(files))}"


def _pass(source: Source) -> str:
    return f"pass {argument('space', source.origin)}, or wherever its original is"
