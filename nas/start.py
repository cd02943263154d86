"""Where the command `nas` begins: signals are answered in good order from the first moment on.

Importing PyTorch takes a second or two, in which nothing is stored yet, so a signal simply ends the process.
Afterwards `nas.cli` takes over.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from nas.signals import STOPPED, STOPS

REFUSED = 2
"""Exit code for what the user can act upon, as in `nas.cli`."""


def main() -> None:
    """Run the command line as a process of its own."""
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup, or a shell in the background, wants it
            signal.signal(number, _end)
    try:
        os.getcwd()
    except FileNotFoundError:  # PyTorch would say that it cannot load itself
        sys.stderr.write("nas: the current folder is gone: change to one that exists\n")
        sys.exit(REFUSED)
    from nas.cli import main as command_line

    command_line()


def _end(number: int, frame: FrameType | None) -> None:
    """End without a word: nothing was begun."""
    os._exit(STOPPED + number)
