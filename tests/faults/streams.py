"""Standard streams of a process as a shell may connect them, and Python's objects on them as at its start."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Mapping

NAMES = {0: "stdin", 1: "stdout", 2: "stderr"}


def connect(streams: Mapping[int, str]) -> None:
    """Connect standard descriptors of this process to what their names say; see `Case.streams`.

    A terminal is shown by a parent process, which this function makes, and which ends as its child does.
    """
    for descriptor, what in streams.items():
        kind, _, columns = what.partition(" ")
        if kind == "closed":
            os.close(descriptor)
        elif kind == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), descriptor)
        elif kind == "left":
            reading, writing = os.pipe()
            os.close(reading)
            os.dup2(writing, descriptor)
        elif kind == "terminal":
            _show_terminal(descriptor, int(columns))
        else:
            raise ValueError(what)
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for descriptor, name in NAMES.items():
        if streams.get(descriptor) == "closed":
            setattr(sys, name, None)
        elif descriptor:
            stream = open(  # noqa: SIM115
                descriptor,
                "w",
                encoding=encoding,
                errors=errors or ("strict", "backslashreplace")[descriptor - 1],
            )
            setattr(sys, name, stream)


def _show_terminal(descriptor: int, columns: int) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = os.fork()
    if child == 0:
        os.close(master)
        os.dup2(slave, descriptor)
        os.close(slave)
        os.environ.pop("COLUMNS", None)
        return
    os.close(slave)
    try:
        while shown := os.read(master, 65536):
            os.write(descriptor, shown)
    except OSError:  # the child has closed it
        pass
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
