"""What stands for a part whose class this process does not know; see `search_spaces.language.stand_ins`."""

from __future__ import annotations

from typing import Any

from foundation.errors import SettingError


class NotDefined(SettingError, AttributeError):
    """What is asked of a part is known only to its class, and that is not defined in this process."""


class StandIn:
    """Base of stand-ins: they have the fields of a class that is not defined here, and nothing else of it."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks every object for some
            raise AttributeError(name)
        raise NotDefined(_words(self, name))


def require_defined(part: Any) -> None:
    """Raise `NotDefined` for a stand-in: nothing can be built or priced of it."""
    if isinstance(part, StandIn):
        raise NotDefined(_words(part, ""))


def _words(part: StandIn, asked: str) -> str:
    about = f", so its {asked} is unknown" if asked else ""
    name = type(part).__name__
    return (
        f"{name} was read without the code that defines it{about}: an architecture of it can be looked at,"
        f" not built, priced or exported; run the study's source with study.with_source(), or import {name}"
    )
