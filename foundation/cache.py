"""Where things are kept that can be made again: `$NAS_CACHE`, or `~/.cache/nas`."""

from __future__ import annotations

import os
from pathlib import Path

from foundation.errors import FileError

ADVICE = "set NAS_CACHE to a folder that can be written"


def cache_folder() -> Path:
    """The folder of this user; not made yet.

    Raises:
        FileError: none is named, and the user has no home.
    """
    if named := os.environ.get("NAS_CACHE"):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user that the system does not know, as in some containers
        home = Path()
    if not home.is_absolute():
        raise FileError(f"there is no home for a cache: {ADVICE}")
    return home / ".cache" / "nas"
