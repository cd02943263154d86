"""What a page is, and how an address names one with everything that a reader set on it.

/                                   the page without a study: all studies
/study/first                        the first page of a study
/study/first/network/1f2e3d4c5b6a   another one, and what it shows
/study/first?x=decode_ms&pick=17    with its controls as they were
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlencode

import dash
from dash import dcc
from dash.development.base_component import Component

from foundation.registry import Registry

if TYPE_CHECKING:
    from dashboards.app.live_store import LiveStore

STUDY = "study"
"""The first word of the addresses of a study's pages."""

LONGEST_ADDRESS = 4000
"""Characters of what is asked for behind a path."""

MOST_ASKED = 100
"""Words that are asked for behind a path."""

MOST_WHOLE = 2**53
"""Beyond it, numbers of a browser are no longer whole."""

MOST_COMPARED = 6
"""Networks that are compared: so many marks can be told apart."""

pages: Registry[type[Page]] = Registry("page", folder="dashboards.pages")


@dataclass(frozen=True)
class Place:
    """Where a reader is: the word of a page ("" for the first), its study, what follows, what is asked."""

    page: str = ""
    study: str = ""
    rest: str = ""
    asked: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | None, search: str | None = "") -> Place:
        """The place of an address, whatever it says."""
        parts = [unquote(part) for part in (path or "").strip("/").split("/")]
        text = (search or "")[:LONGEST_ADDRESS].removeprefix("?")
        try:
            asked = {name: tuple(found) for name, found in parse_qs(text, max_num_fields=MOST_ASKED).items()}
        except ValueError:  # more words than any of our pages has
            asked = {}
        if parts[0] != STUDY or len(parts) < 2 or not parts[1]:
            return cls(page=parts[0] if parts[0] != STUDY else "", rest="/".join(parts[1:]), asked=asked)
        return cls(parts[2] if len(parts) > 2 else "", parts[1], "/".join(parts[3:]), asked)

    def one(self, word: str, known: Iterable[str] | None = None, default: str = "") -> str:
        """What is asked for under a word, if it is among `known`; else the default."""
        found = self.asked.get(word, ("",))[0]
        return found if found and (known is None or found in known) else default

    def some(self, word: str, known: Iterable[str]) -> list[str]:
        """All that is asked for under a word and known, each once."""
        among = set(known)
        return [each for each in dict.fromkeys(self.asked.get(word, ())) if each in among]

    def number(self, word: str) -> float | None:
        """A finite number that is asked for under a word."""
        try:
            found = float(self.one(word))
        except ValueError:
            return None
        return found if math.isfinite(found) else None


def address(page: str = "", study: str = "", rest: str = "", **asked: Any) -> str:
    """The address of a page of a study, or without one of a page over all studies."""
    parts = [STUDY, study, page, rest] if study else [page, rest]
    path = "/" + "/".join(quote(part, safe="") for part in parts if part)
    return f"{path}?{urlencode(asked, doseq=True)}" if asked else path


def whole_number(given: Any) -> int | None:
    """A whole number that a browser can hold; None for whatever else is given."""
    if isinstance(given, bool) or not isinstance(given, int | float) or abs(given) >= MOST_WHOLE:
        return None
    return int(given) if float(given).is_integer() else None


@dataclass(frozen=True)
class Control:
    """What a reader sets on a page: the component that holds it ("id.property"), the kind of its value."""

    of: str
    kind: type


class Page(ABC):
    """One page. `name` is its word in addresses: "" is the first page of all, `front` the first of a study.

    `about` is the sentence under its title. `linked` are its controls by their words in the address, which
    restores them: `layout` reads them from its `Place`, a change of them is written there. `sent` are the
    other properties that its callbacks send to the server; what is in neither is refused.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    about: ClassVar[str] = ""
    of_study: ClassVar[bool] = True
    rank: ClassVar[int] = 50
    linked: ClassVar[Mapping[str, Control]] = {}
    sent: ClassVar[Mapping[str, type]] = {}

    def __init__(self, live: LiveStore) -> None:
        self.live = live

    @abstractmethod
    def layout(self, place: Place) -> Component | list[Component]:
        """The page at a place.

        Raises:
            NasError: it cannot be shown; the text says why.
        """

    def connect(self, app: dash.Dash) -> None:
        """Add its callbacks."""

    @property
    def usual_id(self) -> str:
        """The component that holds what the page shows where its address says nothing."""
        return f"{self.name}-usual"

    def usual(self, values: Mapping[str, object]) -> Component:
        """Keeps what is usual here, by the words of its address, out of the address."""
        return dcc.Store(id=self.usual_id, data=dict(values))

    def kinds(self) -> dict[str, type]:
        """All properties that its callbacks may send, with their kinds."""
        return {**self.sent, **{control.of: control.kind for control in self.linked.values()}}
