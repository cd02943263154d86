"""Where a store is: a plain path or a URL, as the user typed it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from foundation.errors import StoreError

IN_MEMORY = (None, "", ":memory:")


def parse_location(location: str | Path) -> URL:
    """The URL of a store; a plain path means SQLite.

    Raises:
        StoreError: the URL is malformed or names another kind of database.
    """
    if not isinstance(location, (str, Path)):
        raise StoreError(f"a store is the path of a SQLite file, or a URL, got {location!r}")
    text = str(location)
    if "\0" in text:
        raise StoreError(f"the path of a store holds no null character, got {text!r}")
    if not text.strip():
        raise StoreError("a store needs a place: the path of a SQLite file, or a URL")
    if "://" not in text:
        return URL.create("sqlite", database=_expanded(text))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise StoreError(f"cannot read the store's URL: {error}") from error
    kind = url.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise StoreError(f"a store is a SQLite file or a PostgreSQL database, not {kind!r}")
    if kind == "sqlite" and (url.host or url.port or url.query):
        raise StoreError(
            f"cannot read the store's URL {text}: write sqlite:///FILE, or sqlite:////FOLDER/FILE"
        )
    # SQLAlchemy 2.0 and 2.1 have different default drivers
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _expanded(path: str) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        user = Path(path).parts[0]
        raise StoreError(f"{user} in {path} names no home folder: write ./{user} for a folder here") from None


def sqlite_path(location: str | Path | URL) -> Path | None:
    """The file of a SQLite store; None for one in memory and for other databases."""
    url = location if isinstance(location, URL) else parse_location(location)
    if url.get_backend_name() != "sqlite" or url.database in IN_MEMORY:
        return None
    return Path(str(url.database))


def check_file(path: Path, *, read_only: bool) -> None:
    """Raise `StoreError` where a SQLite file is no file, or cannot be one."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder: name a file in it, e.g. {path / 'studies.db'}")
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} is a device or a pipe, not a file: a store is a SQLite file")
    above = next((folder for folder in path.parents if folder.exists()), None)
    if above is not None and not above.is_dir():
        raise StoreError(f"{above} is a file, so {path} cannot lie in it")
    if read_only and not path.exists():
        raise StoreError(f"there is no store at {path}")


def shown(url: URL) -> str:
    """A store's place for people: the file, or the URL without its password."""
    path = sqlite_path(url)
    return url.render_as_string(hide_password=True) if path is None else str(path)
