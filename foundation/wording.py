"""Settings in messages, as whoever reads them would write them.

    argument("train_steps", 3)                # train_steps=3      --train-steps 3
    argument("strict_table", True)            # strict_table=True  --strict-table
    argument("scenarios", option="scenario")  # scenarios          --scenario

In Python they are arguments. The command line reads everything that it prints `as_options`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NO_VALUE = object()

_options = False


def argument(name: str, value: Any = _NO_VALUE, *, option: str | None = None) -> str:
    """A setting, alone or with a value; `option` is its name on a command line, where that differs."""
    if not _options:
        return name if value is _NO_VALUE else f"{name}={value!r}"
    flag = f"--{option or name.replace('_', '-')}"
    if value is False:
        return flag.replace("--", "--no-", 1)
    return flag if value is _NO_VALUE or value is True else f"{flag} {_written(value)}"


@contextmanager
def as_options() -> Iterator[None]:
    """Within this, settings are named as options of a command."""
    global _options
    before, _options = _options, True
    try:
        yield
    finally:
        _options = before


def _written(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
