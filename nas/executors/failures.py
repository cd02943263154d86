"""What a candidate can do to the process that scores it: anything it raises, told apart from a real signal.

A scorer runs code of others. It may raise what is meant to end a process (`SystemExit`, `KeyboardInterrupt`),
errors whose text cannot be printed, or is a megabyte long. All of that is the candidate's failure, in one
line. A signal that a person or a scheduler sent is not: it ends the search in good order, also where a scorer
swallowed what its handler raised.
"""

from __future__ import annotations

import errno

import torch

from foundation.errors import FileError, StoreError

MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a disk, which no candidate is to blame for."""


NO_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
)
"""What an error says that torch raises for want of memory, of a CPU or of a GPU's libraries, as any other."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a machine or a GPU had not enough memory; where others use it too, another may have more."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error is about the disk or the store, so that every other candidate would meet it too."""
    if isinstance(error, (FileError, StoreError)):
        return True
    return isinstance(error, OSError) and error.errno in MACHINE
