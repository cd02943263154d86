"""The signals that stop a process in good order, and the exit codes that tell of them."""

from __future__ import annotations

import signal

STOPPED = 128
"""Exit code of a process that was stopped, less the number of the signal."""

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals by which a process is asked to stop; a second one stops it at once."""
