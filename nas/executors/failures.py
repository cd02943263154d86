"""What a candidate can do to the process that scores it: anything it raises, told apart from a real signal.

A scorer runs code of others. It may raise what is meant to end a process (`SystemExit`, `KeyboardInterrupt`),
errors whose text cannot be printed, or is a megabyte long. All of that is the candidate's failure, in one
line. A signal that a person or a scheduler sent is not: it ends the search in good order, also where a scorer
swallowed what its handler raised.
"""

from __future__ import annotations

import errno

from foundation.errors import FileError, StoreError

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk, which no candidate is to blame for."""


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error is about the disk or the store, so that every other candidate would meet it too."""
    if isinstance(error, (FileError, StoreError)):
        return True
    return isinstance(error, OSError) and error.errno in MACHINE
