"""How a training is shared among processes, as one value.

    Parallel.parse("dp=2,tp=2")                       # two replicas, each of two processes
    Parallel.parse("fsdp=4,fsdp.reshard=false")       # ZeRO 2
    Parallel.parse("dp=2,dp.zero=1")                  # ZeRO 1
    Parallel.parse("pp=2,pp.schedule=gpipe")

The words are those of the methods in `evaluators.training.parallel.methods`, `NAME=PROCESSES` and
`NAME.SETTING=VALUE`. Processes multiply. What a training learns does not depend on them, but for rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import prod
from typing import Any

from evaluators.training.parallel.methods.base import MOST_PROCESSES, Method, methods
from foundation.errors import SettingError, UnknownName, told_of
from foundation.registry import nearest
from foundation.settings import Settings, describe, parse, parse_assignments
from foundation.text import listed
from foundation.wording import argument
from search_spaces.network.decoder import Decoder

DEGREE = "degree"
"""The setting of a method that stands behind its name: `dp=2`."""


@dataclass(frozen=True, kw_only=True)
class Parallel(Settings):
    """The methods of a training, in the order of their axes; none of degree 1.

    Raises:
        SettingError: two of them do not work together, or there are too many processes.
    """

    methods: tuple[Method, ...] = field(default=())

    def __post_init__(self) -> None:
        placed = sorted((m for m in self.methods if m.degree > 1), key=lambda method: method.place)
        object.__setattr__(self, "methods", tuple(placed))
        for one, other in combinations(self.methods, 2):
            if not _together(type(one), type(other)):
                raise SettingError(
                    f"{one.name} and {other.name} do not work together: {_possible()} do, and each alone"
                )
        shares_steps = any(getattr(method, "zero", 0) for method in self.methods)
        if shares_steps and self.has("fsdp"):
            raise SettingError(
                "dp.zero=1 is for replicas of whole networks: fsdp shares the optimizer state already"
            )
        if shares_steps and self.has("pp"):
            raise SettingError(
                "dp.zero=1 and pp do not work together: leave dp.zero out, or use dp without pp"
            )
        if self.count > MOST_PROCESSES:
            raise SettingError(f"{self.count:,} processes are too many: at most {MOST_PROCESSES:,} can be")

    @classmethod
    def parse(cls, text: str) -> Parallel:
        """The methods of a text such as `dp=2,tp=2,pp.schedule=gpipe`; an empty one is a single process.

        Raises:
            UnknownName: there is no such method or setting; the nearest is named.
            SettingError: a value cannot be read or is out of range, or methods do not work together.
        """
        parts = [part for part in text.split(",") if part.strip()]
        with told_of(argument("parallel", text), SettingError):
            for part in parts:
                if "=" not in part:
                    name = part.strip()
                    each = f"{name}=PROCESSES" if name in methods else "METHOD=PROCESSES"
                    raise SettingError(f"{name!r}: write {each}; methods are {listed(sorted(methods))}")
            return cls.from_text(parse_assignments(parts))

    @classmethod
    def from_text(cls, texts: Mapping[str, str]) -> Parallel:
        """As `parse`, from texts by name."""
        settings: dict[str, dict[str, str]] = {}
        for path, value in texts.items():
            name, _, inside = path.partition(".")
            if name not in methods:
                raise UnknownName(f"no method {name!r} of parallel training; {nearest(name, methods)}")
            settings.setdefault(name, {})[inside or DEGREE] = value
        chosen = []
        for name, given in settings.items():
            if DEGREE not in given:
                raise SettingError(f"{name}.{next(iter(given))} needs {name}=PROCESSES")
            chosen.append(_made(methods[name], given))
        return cls(methods=tuple(chosen))

    def to_plain(self) -> dict[str, Any]:
        """The methods by name."""
        return {"methods": [method.to_plain() for method in self.methods]}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Parallel:
        """What `to_plain` wrote."""
        return cls(methods=tuple(Method.from_plain(method) for method in plain["methods"]))

    def __str__(self) -> str:
        """As it is parsed; empty for a single process."""
        return ",".join(map(str, self.methods))

    @property
    def asked(self) -> str:
        """How a user asked for it."""
        return argument("parallel", str(self))

    def has(self, name: str) -> bool:
        """Whether a method is among these."""
        return any(method.name == name for method in self.methods)

    def of(self, name: str) -> Method:
        """The method of a name, of degree 1 where it is none of these."""
        found: Method = next((m for m in self.methods if m.name == name), None) or methods[name]()
        return found

    @property
    def count(self) -> int:
        """Processes in all."""
        return prod(method.degree for method in self.methods)

    @property
    def readers(self) -> int:
        """Into how many parts a batch goes, each read by other processes."""
        return prod(method.degree for method in self.methods if method.reads)

    @property
    def sizes(self) -> dict[str, int]:
        """Processes by axis, in the order of the axes, those of one process included."""
        ordered = sorted(methods.values(), key=lambda kind: kind.place)
        return {kind.name: self.of(kind.name).degree for kind in ordered}

    def indices(self, rank: int) -> dict[str, int]:
        """The place of a process on each axis; neighbours in rank are neighbours on the last one."""
        found: dict[str, int] = {}
        for name, size in reversed(self.sizes.items()):
            rank, found[name] = divmod(rank, size)
        return found

    @property
    def least_pieces(self) -> int:
        """Pieces in which each process must read its rows of a batch, at least."""
        return max((method.least_pieces() for method in self.methods), default=1)

    @property
    def uncompiled(self) -> str:
        """Why a training is not compiled by these methods; empty: it is."""
        return "; ".join(f"{each.name}: {each.uncompiled}" for each in self.methods if each.uncompiled)

    def check(self, spec: Decoder) -> None:
        """Raise `SettingError` where a network cannot be shared like this."""
        with told_of(self.asked, SettingError):
            for method in self.methods:
                method.check(spec)

    def check_batch(self, batch: int, accumulate: int) -> None:
        """Raise `SettingError` where a batch does not fall into equal pieces, or into too few."""
        if accumulate < self.least_pieces:
            raise SettingError(
                f"{self.asked} needs a batch in at least {self.least_pieces} pieces, got"
                f" {argument('accumulate', accumulate)}: a pipeline is filled by pieces, and only"
                " pp.schedule=gpipe takes any number"
            )
        pieces = self.readers * accumulate
        if batch % pieces:
            asked = ([self.asked] if self.readers > 1 else []) + (
                [argument("accumulate", accumulate)] if accumulate > 1 else []
            )
            raise SettingError(
                f"{listed(asked)}: a batch of {batch} rows does not fall into {pieces} equal pieces: choose a"
                f" multiple of {pieces} ({argument('train_batch')})"
            )


def _made(kind: type[Method], texts: Mapping[str, str]) -> Method:
    """A method of the settings in these texts, which messages name as they were written: `dp`, `dp.zero`."""
    known, values = {d.name: d for d in describe(kind)}, {}
    for name, text in texts.items():
        if name not in known:
            raise UnknownName(f"no setting {kind.name}.{name}; {nearest(name, set(known) - {DEGREE})}")
        written = kind.name if name == DEGREE else f"{kind.name}.{name}"
        values[name] = parse(replace(known[name], name=written), text)
    return kind(**values)


def _together(one: type[Method], other: type[Method]) -> bool:
    return other.name in one.beside or one.name in other.beside


def _possible() -> str:
    kinds = sorted(methods.values(), key=lambda kind: kind.place)
    pairs = [f"{a.name} x {b.name}" for a, b in combinations(kinds, 2) if _together(a, b)]
    return listed(pairs)
